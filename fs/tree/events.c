/* SPDX-License-Identifier: MIT */

/*
 * .pool/events: a line a change, from the oldest that is kept; a read at the
 * end waits for the next. Each open reads for itself. A reader that is too slow
 * is told how many lines it missed.
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/handle.h"
#include "pool/base/limits.h"

static int events_open(struct handle *h) {
        h->text.max = 64 * EVENT_LEN_MAX;
        h->next_event = event_oldest(h->fs->events);
        return 0;
}

/* The next lines into the handle's text, as many as fit. */
static int fill(struct handle *h) {
        uint64_t oldest = event_oldest(h->fs->events);
        const char *line;
        int r = 0;

        buf_clear(&h->text);
        if (h->next_event < oldest) {
                r = buf_printf(&h->text, "{\"missed\":%" PRIu64 "}\n", oldest - h->next_event);
                h->next_event = oldest;
        }
        while (r == 0 && (line = event_line(h->fs->events, h->next_event))) {
                r = buf_append(&h->text, line, strlen(line));
                if (r == 0)
                        h->next_event++;
        }
        h->text_at = 0;
        return r == -EFBIG ? 0 : r;
}

static ssize_t events_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        ssize_t n;
        int r;

        if (h->text_at == h->text.len) {
                r = fill(h);
                if (r < 0)
                        return r;
        }
        if (h->text.len == 0)
                return -EAGAIN;
        n = read_text(&h->text, h->text_at, data, len);
        h->text_at += n;
        return n;
}

static bool events_ready(const struct handle *h) {
        return h->text_at < h->text.len || h->next_event < event_next(h->fs->events);
}

static struct list *events_watches(struct handle *h) {
        return event_ring_watches(h->fs->events);
}

const struct file_ops events_ops = {
        .open = events_open,
        .read = events_read,
        .ready = events_ready,
        .watches = events_watches,
        .stream = true,
};
