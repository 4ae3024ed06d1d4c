/* SPDX-License-Identifier: MIT */
#include "pool/backend/local/stdin.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "pool/backend/backend.h"
#include "pool/util/buf.h"
#include "pool/util/cleanup.h"

struct local_stdin {
        uv_poll_t poll; /* runs while bytes are kept */
        int fd;         /* -1: closed or broken */
        bool ending, broken;
        struct buf kept;
        void (*room)(void *owner);
        void *owner;
};

static void on_closed(uv_handle_t *handle) {
        struct local_stdin *s = handle->data;

        close_fd(s->fd);
        buf_deinit(&s->kept);
        free(s);
}

void local_stdin_free(struct local_stdin *s) {
        if (s)
                uv_close((uv_handle_t *)&s->poll, on_closed);
}

/* The descriptor closes at once, for the job waits for that; its handle stays until the end. */
static void close_pipe(struct local_stdin *s) {
        uv_poll_stop(&s->poll);
        close_fd(TAKE_FD(s->fd));
        buf_clear(&s->kept);
}

/* Bytes that the pipe takes now; 0: it is full, -EPIPE: it is broken. */
static ssize_t write_now(struct local_stdin *s, const char *data, size_t len) {
        ssize_t n;

        do
                n = write(s->fd, data, len);
        while (n < 0 && errno == EINTR);
        if (n >= 0)
                return n;
        if (errno == EAGAIN)
                return 0;
        s->broken = true;
        close_pipe(s);
        return -EPIPE;
}

static void on_writable(uv_poll_t *poll, int status, int events) {
        struct local_stdin *s = poll->data;
        ssize_t n = write_now(s, s->kept.data, s->kept.len); /* which also tells what a bad status is about */

        if (n > 0)
                buf_drop(&s->kept, n);
        if (s->fd >= 0 && s->kept.len == 0) {
                uv_poll_stop(poll);
                if (s->ending)
                        close_pipe(s);
        } else if (s->fd >= 0 && status < 0) {
                uv_poll_start(poll, UV_WRITABLE, on_writable); /* libuv has stopped it */
        }
        if (n != 0 || s->kept.len == 0)
                s->room(s->owner);
}

int local_stdin_new(struct local_stdin **out, uv_loop_t *loop, int fd, void (*room)(void *owner), void *owner) {
        struct local_stdin *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        r = uv_poll_init(loop, &s->poll, fd); /* makes it non-blocking */
        if (r < 0) {
                free(s);
                return r;
        }
        s->poll.data = s;
        s->fd = fd;
        s->kept = (struct buf)BUF_INIT(EXEC_INPUT_MAX);
        s->room = room;
        s->owner = owner;
        *out = s;
        return 0;
}

ssize_t local_stdin_write(struct local_stdin *s, const void *data, size_t len) {
        size_t room = s->kept.max - s->kept.len, more;
        ssize_t n = 0;

        if (s->broken)
                return -EPIPE;
        if (s->kept.len == 0)
                n = write_now(s, data, len);
        if (n < 0 || (size_t)n == len)
                return n;
        more = len - n < room ? len - n : room;
        if (buf_append(&s->kept, (const char *)data + n, more) < 0)
                more = 0; /* it is tried again when there is room */
        uv_poll_start(&s->poll, UV_WRITABLE, on_writable);
        return n + more;
}

void local_stdin_end(struct local_stdin *s) {
        s->ending = true;
        if (s->fd >= 0 && s->kept.len == 0)
                close_pipe(s);
}
