/* SPDX-License-Identifier: MIT */
#include "pool/lease/live-input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/lease/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/crash.h"
#include "pool/util/io.h"

#define HEAD 4096 /* bytes of the file before the ring; the first of them are the size */
#define FILE_SIZE (HEAD + LIVE_INPUT_MAX)

static int open_file(const struct live_input *i, int flags) {
        int fd = openat(i->dir, i->name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);

        return fd < 0 ? -errno : fd;
}

/* The ring is passed over at its end, so @len bytes are in one place or in two. */
static size_t piece_at(uint64_t offset, size_t len, uint64_t *place) {
        uint64_t at = offset % LIVE_INPUT_MAX, left = LIVE_INPUT_MAX - at;

        *place = HEAD + at;
        return len < left ? len : left;
}

static int write_ring(int fd, uint64_t offset, const char *data, size_t len) {
        uint64_t place;
        int r = 0;

        while (r == 0 && len > 0) {
                size_t n = piece_at(offset, len, &place);

                r = write_at(fd, data, n, place);
                offset += n;
                data += n;
                len -= n;
        }
        return r;
}

/* One that is half written is not answered, and the head does not count it. */
static int add(struct live_input *i, int fd, const void *data, size_t len) {
        uint64_t size = i->size + len;
        int r = write_ring(fd, i->size, data, len);

        if (r == 0)
                r = write_at(fd, &size, sizeof(size), 0);
        if (r == 0)
                i->size = size;
        return r;
}

/* So large that nothing fails later for want of room, where the file system can promise that. */
static int make_file(struct live_input *i, const struct blob *first) {
        _cleanup_(cleanup_close) int fd = open_file(i, O_WRONLY | O_CREAT | O_TRUNC);
        _cleanup_(cleanup_free) char *bytes = first->size ? malloc(first->size) : NULL;
        ssize_t n;

        if (fd < 0)
                return fd;
        if (first->size && !bytes)
                return -ENOMEM;
        if (fallocate(fd, 0, 0, FILE_SIZE) < 0 && (errno != EOPNOTSUPP || ftruncate(fd, FILE_SIZE) < 0))
                return -errno;
        n = blob_read(first, 0, bytes, first->size);
        if (n != (ssize_t)first->size)
                return n < 0 ? (int)n : -EIO;
        return add(i, fd, bytes, n);
}

static struct live_input *make(int dir, const char *name, struct quota_account *quota) {
        struct live_input *i = calloc(1, sizeof(*i));

        if (!i)
                return NULL;
        i->dir = dir;
        i->quota = quota;
        snprintf(i->name, sizeof(i->name), "%s", name);
        i->file = true;
        quota_charge(quota, FILE_SIZE);
        return i;
}

int live_input_new(struct live_input **out, int dir, const char *name, struct quota_account *quota,
                   const struct blob *first) {
        struct live_input *i;
        int r;

        if (first->size > LIVE_INPUT_MAX)
                return -EFBIG;
        if (FILE_SIZE > quota_room(quota))
                return -EDQUOT;
        i = make(dir, name, quota);
        if (!i)
                return -ENOMEM;
        r = make_file(i, first);
        if (r < 0)
                live_input_free(i);
        else
                *out = i;
        return r;
}

int live_input_restore(struct live_input **out, int dir, const char *name, struct quota_account *quota, bool ended) {
        struct live_input *i = make(dir, name, quota);
        int fd;

        if (!i)
                return -ENOMEM;
        i->kept = true;
        i->ended = ended;
        fd = open_file(i, O_RDONLY);
        if (fd < 0 || read_at(fd, &i->size, sizeof(i->size), 0) != sizeof(i->size)) {
                int r = fd < 0 ? fd : -EIO;

                close_fd(fd);
                live_input_free(i);
                return r;
        }
        close(fd);
        i->kept = false;
        *out = i;
        return 0;
}

void live_input_close(struct live_input *i) {
        i->closed = true;
        if (!i->file)
                return;
        i->file = false;
        quota_refund(i->quota, FILE_SIZE);
        if (!i->kept)
                unlinkat(i->dir, i->name, 0);
}

void live_input_free(struct live_input *i) {
        if (!i)
                return;
        live_input_close(i);
        free(i);
}

/* After a restart nothing is known of what the sandbox has, until it says so. */
static uint64_t room(const struct live_input *i) {
        uint64_t kept = i->size - i->taken;

        return kept < LIVE_INPUT_MAX ? LIVE_INPUT_MAX - kept : 0;
}

bool live_input_is_writable(const struct live_input *i) {
        return i->ended || i->closed || room(i) >= PIPE_BUF;
}

ssize_t live_input_write(struct live_input *i, const void *data, size_t len) {
        _cleanup_(cleanup_close) int fd = -1;
        uint64_t n = room(i);
        int r;

        if (i->ended || i->closed)
                return -EPIPE;
        if (n < len && n < PIPE_BUF)
                return -EAGAIN;
        if (len < n)
                n = len;
        fd = open_file(i, O_WRONLY);
        if (fd < 0)
                return fd;
        r = add(i, fd, data, n);
        crash_point("input", "was kept");
        return r < 0 ? r : (ssize_t)n;
}

bool live_input_read(const struct live_input *i, uint64_t offset, void *data, size_t len) {
        _cleanup_(cleanup_close) int fd = open_file(i, O_RDONLY);
        char *to = data;
        uint64_t place;

        while (fd >= 0 && len > 0) {
                size_t n = piece_at(offset, len, &place);

                if (read_at(fd, to, n, place) != (ssize_t)n)
                        return false;
                offset += n;
                to += n;
                len -= n;
        }
        return fd >= 0;
}

void live_input_take(struct live_input *i, uint64_t offset, bool closed) {
        if (offset > i->taken && offset <= i->size)
                i->taken = offset;
        i->closed |= closed;
}
