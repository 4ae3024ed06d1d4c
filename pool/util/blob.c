/* SPDX-License-Identifier: MIT */
#include "pool/util/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/io.h"
#include "pool/util/removal.h"

void blob_init(struct blob *b, int dir, uint64_t max) {
        *b = (struct blob){
                .dir = dir,
                .buf = BUF_INIT(BLOB_MEMORY_MAX),
                .max = max,
        };
}

void blob_deinit(struct blob *b) {
        if (b->file && !b->kept)
                removal_add(b->dir, b->name, b->size);
        if (b->file)
                quota_refund(b->quota, b->size);
        b->file = false;
        buf_deinit(&b->buf);
        b->size = 0;
}

void blob_clear(struct blob *b) {
        blob_deinit(b);
}

void blob_move(struct blob *to, struct blob *from) {
        blob_deinit(to);
        memcpy(to->name, from->name, sizeof(to->name));
        to->file = from->file;
        to->buf = from->buf;
        to->size = from->size;
        if (to->file) {
                quota_refund(from->quota, to->size);
                quota_charge(to->quota, to->size);
        }
        from->file = false;
        from->buf = (struct buf)BUF_INIT(BLOB_MEMORY_MAX);
        from->size = 0;
}

static int open_file(const struct blob *b, int flags) {
        int fd = openat(b->dir, b->name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);

        return fd < 0 ? -errno : fd;
}

static int blob_to_file(struct blob *b) {
        static unsigned number;
        _cleanup_(cleanup_close) int fd = -1;
        int r;

        snprintf(b->name, sizeof(b->name), "blob.%u", number++);
        fd = open_file(b, O_WRONLY | O_CREAT | O_EXCL);
        if (fd < 0)
                return fd;
        r = write_at(fd, b->buf.data, b->buf.len, 0);
        if (r < 0) {
                unlinkat(b->dir, b->name, 0);
                return r;
        }
        buf_deinit(&b->buf);
        b->file = true;
        quota_charge(b->quota, b->size);
        return 0;
}

int blob_rename(struct blob *b, const char *name) {
        if (!b->file)
                return 0;
        if (renameat(b->dir, b->name, b->dir, name) < 0)
                return -errno;
        snprintf(b->name, sizeof(b->name), "%s", name);
        return 0;
}

int blob_restore(struct blob *b, const char *name) {
        struct stat st;

        if (fstatat(b->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if ((uint64_t)st.st_size > b->max)
                return -EFBIG;
        snprintf(b->name, sizeof(b->name), "%s", name);
        b->size = st.st_size;
        b->file = true;
        quota_charge(b->quota, b->size);
        return 0;
}

static int append_to_file(const struct blob *b, const void *data, size_t len) {
        _cleanup_(cleanup_close) int fd = open_file(b, O_WRONLY);

        return fd < 0 ? fd : append_at(fd, data, len, b->size);
}

static int append(struct blob *b, const void *data, size_t len) {
        int r = 0;

        if (!b->file && b->size + len <= BLOB_MEMORY_MAX)
                return buf_append(&b->buf, data, len);
        if ((b->file ? len : b->size + len) > quota_room(b->quota))
                return -EDQUOT;
        if (!b->file)
                r = blob_to_file(b);
        if (r == 0)
                r = append_to_file(b, data, len);
        if (r == 0)
                quota_charge(b->quota, len);
        return r;
}

int blob_append(struct blob *b, const void *data, size_t len) {
        int r = len > b->max - b->size ? -EFBIG : append(b, data, len);

        if (r == 0)
                b->size += len;
        return r;
}

ssize_t blob_read(const struct blob *b, uint64_t offset, void *data, size_t len) {
        _cleanup_(cleanup_close) int fd = -1;

        if (offset >= b->size)
                return 0;
        if (len > b->size - offset)
                len = b->size - offset;
        if (!b->file) {
                memcpy(data, b->buf.data + offset, len);
                return len;
        }
        fd = open_file(b, O_RDONLY);
        return fd < 0 ? fd : read_at(fd, data, len, offset);
}

int blob_open(const struct blob *b) {
        int fds[2], fd;

        if (b->size == 0) {
                fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
                return fd < 0 ? -errno : fd;
        }
        if (b->file)
                return open_file(b, O_RDONLY);

        /* BLOB_MEMORY_MAX bytes always fit into a new pipe. */
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        if (write(fds[1], b->buf.data, b->buf.len) != (ssize_t)b->buf.len) {
                close(fds[0]);
                close(fds[1]);
                return -EIO;
        }
        close(fds[1]);
        return fds[0];
}
