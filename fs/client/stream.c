/* SPDX-License-Identifier: MIT */
#include "fs/client/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/client/limits.h"

int stream_init(struct stream *s, int from, int to) {
        *s = (struct stream){ .from = from, .to = to, .data = malloc(STREAM_BUFFER_SIZE) };
        return s->data ? 0 : -ENOMEM;
}

void stream_deinit(struct stream *s) {
        free(s->data);
        *s = (struct stream){ .ended = true };
}

struct pollfd stream_wants(const struct stream *s) {
        if (s->ended)
                return (struct pollfd){ .fd = -1 };
        if (s->len > 0)
                return (struct pollfd){ .fd = s->to, .events = POLLOUT };
        return (struct pollfd){ .fd = s->from, .events = POLLIN };
}

/* Whether a call returns at once, by what the file is or how it was opened. */
static bool never_waits(int fd) {
        struct stat st;

        return fcntl(fd, F_GETFL) & O_NONBLOCK || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode));
}

/*
 * Other processes share our standard streams, so O_NONBLOCK must not be set there, and one of them may take what poll(2)
 * has found. RWF_NOWAIT is for one call alone. A file that does not know it has been polled at least, and a pipe then
 * has room for PIPE_BUF bytes.
 */
static ssize_t read_now(int fd, void *data, size_t len) {
        struct iovec part = { .iov_base = data, .iov_len = len };
        ssize_t n;

        if (never_waits(fd))
                return read(fd, data, len);
        n = preadv2(fd, &part, 1, -1, RWF_NOWAIT);
        return n < 0 && errno == EOPNOTSUPP ? read(fd, data, len) : n;
}

static ssize_t write_now(int fd, void *data, size_t len) {
        struct iovec part = { .iov_base = data, .iov_len = len };
        ssize_t n;

        if (never_waits(fd))
                return write(fd, data, len);
        n = pwritev2(fd, &part, 1, -1, RWF_NOWAIT);
        return n < 0 && errno == EOPNOTSUPP ? write(fd, data, len < PIPE_BUF ? len : PIPE_BUF) : n;
}

static bool is_temporary(int error) {
        return error == EAGAIN || error == EINTR;
}

static void move_in(struct stream *s) {
        ssize_t n = read_now(s->from, s->data, STREAM_BUFFER_SIZE);

        if (n < 0 && is_temporary(errno))
                return;
        if (n < 0)
                s->read_error = -errno;
        s->ended = n <= 0;
        s->start = 0;
        s->len = n > 0 ? n : 0;
}

static void move_out(struct stream *s) {
        ssize_t n = write_now(s->to, s->data + s->start, s->len);

        if (n < 0 && !is_temporary(errno)) {
                s->write_error = -errno;
                s->ended = true;
        }
        if (n > 0) {
                s->start += n;
                s->len -= n;
        }
}

void stream_move(struct stream *s) {
        if (s->len > 0)
                move_out(s);
        else
                move_in(s);
}
