/* SPDX-License-Identifier: MIT */

/*
 * .pool/events: one line per change, beginning with the oldest that is kept. A
 * read at the end waits for the next line. Each open file has its own position.
 * A reader that is too slow is told how many lines it missed.
 */

#include <errno.h>
#include <string.h>

#include "fs/handle.h"
#include "pool/base/limits.h"

static int events_open(struct handle *h) {
        h->text.max = 64 * EVENT_LEN_MAX;
        h->next_event = event_oldest(h->pool->ring);
        return 0;
}

static ssize_t events_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        ssize_t n;
        int r;

        if (h->text_at == h->text.len) {
                buf_clear(&h->text);
                h->text_at = 0;
                r = event_read(h->pool->ring, &h->next_event, &h->text);
                if (r < 0)
                        return r;
        }
        if (h->text.len == 0)
                return h->pool->open ? -EAGAIN : -ESTALE;
        n = read_text(&h->text, h->text_at, data, len);
        h->text_at += n;
        return n;
}

static bool events_ready(const struct handle *h) {
        return h->text_at < h->text.len || h->next_event < event_next(h->pool->ring) || !h->pool->open;
}

static struct list *events_watches(struct handle *h) {
        return event_ring_watches(h->pool->ring);
}

const struct file_ops events_ops = {
        .open = events_open,
        .read = events_read,
        .ready = events_ready,
        .watches = events_watches,
        .stream = true,
};
