/* SPDX-License-Identifier: MIT */

/*
 * watch: a path is written to an open file, and lines about what changes there are read from it. The write waits until the
 * changes are seen, or says why they cannot be. The last close ends it.
 */

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "fs/tree/connection.h"

#define RECURSIVE "recursive"
#define WATCH_TEXT_MAX (PATH_MAX + sizeof(RECURSIVE) + 1)

static int watch_open(struct handle *h) {
        h->text.max = WATCH_TEXT_MAX;
        return 0;
}

/* What was written so far, without the last newline: a path, perhaps behind the word. False: it can be no such thing. */
static bool parse(struct handle *h, struct connection_spec *spec) {
        const char *text = h->text.data;
        size_t word = strlen(RECURSIVE);

        *spec = (struct connection_spec){ .kind = CONNECTION_WATCH, .path = text };
        if (memchr(text, '\0', h->text.len))
                return false;
        if (strncmp(text, RECURSIVE, word) == 0 && (text[word] == '\n' || !text[word])) {
                spec->recursive = true;
                spec->path = text + word + (text[word] == '\n');
        }
        return !strchr(spec->path, '\n');
}

/* Adds a line. */
static int take(struct handle *h, const char *data, size_t len) {
        int r = h->text.len > 0 ? buf_append(&h->text, "\n", 1) : 0;

        h->text_at = h->text.len;
        if (len > 0 && data[len - 1] == '\n')
                len--;
        if (r == 0)
                r = buf_append(&h->text, data, len);
        return r < 0 ? -ENAMETOOLONG : 0;
}

static void start_again(struct handle *h) {
        buf_clear(&h->text);
        tree_disconnect(h);
}

/* The write that waits is tried again: its line was taken. */
static bool is_again(const struct handle *h, const char *data, size_t len) {
        size_t n = len - (len > 0 && data[len - 1] == '\n');

        return h->watch_waits && h->text.len - h->text_at == n && memcmp(h->text.data + h->text_at, data, n) == 0;
}

static ssize_t watch_write(struct handle *h, const char *data, size_t len) {
        struct connection_spec spec;
        int r = 0;

        if (h->watching || (h->watch_waits && !is_again(h, data, len)))
                return -EBUSY;
        if (!h->watch_waits)
                r = take(h, data, len);
        if (r == 0 && !parse(h, &spec))
                r = -EINVAL;
        if (r == 0 && !*spec.path && spec.recursive)
                return len; /* the path comes with the next write */
        if (r == 0)
                r = *spec.path ? tree_connect(h, &spec) : -EINVAL;
        h->watch_waits = r == -EAGAIN;
        h->watching = r == 0;
        if (r < 0 && r != -EAGAIN)
                start_again(h);
        return r < 0 ? r : (ssize_t)len;
}

static bool watch_writable(const struct handle *h) {
        return !h->watch_waits;
}

/* Nothing is watched: there is nothing to wait for. */
static ssize_t watch_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        return h->watching ? tree_connection_read(h, job, offset, data, len) : 0;
}

static bool watch_ready(const struct handle *h) {
        return !h->watching || connection_is_readable(&h->connection);
}

const struct file_ops watch_ops = {
        .open = watch_open,
        .read = watch_read,
        .ready = watch_ready,
        .write = watch_write,
        .writable = watch_writable,
        .watches = tree_connection_watches,
        .stream = true,
};
