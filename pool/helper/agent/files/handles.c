/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/files/ops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pool/helper/agent/files/place.h"
#include "pool/util/cleanup.h"
#include "pool/util/io.h"

#define HANDLES_BITS 12
#define HANDLES_MAX (1 << HANDLES_BITS)
#define COPY_MAX (16 << 20) /* bytes of one call: others wait behind it */

#ifndef SYS_copy_file_range
#define SYS_copy_file_range 326
#endif

/* An open file, or a directory that is being listed. */
struct handle {
        uint64_t id; /* 0: none */
        int fd;
        DIR *listing;          /* has the descriptor; or NULL */
        struct dirent *next;   /* was read, and did not fit */
        bool hidden;           /* nothing is shown of it */
};

static struct handle handles[HANDLES_MAX];
static uint64_t last_number, first_id;

/* generation, number, index: no handle is ever like one before it. */
void file_handles_init(unsigned generation) {
        first_id = (uint64_t)(generation + 1) << 48;
}

static struct handle *find(uint64_t id) {
        struct handle *h = &handles[id % HANDLES_MAX];

        return id && h->id == id ? h : NULL;
}

static struct handle *add(int fd) {
        for (unsigned i = 0; i < HANDLES_MAX; i++) {
                struct handle *h = &handles[(last_number + i) % HANDLES_MAX];

                if (h->id)
                        continue;
                last_number++;
                *h = (struct handle){ .fd = fd };
                h->id = first_id | (last_number << HANDLES_BITS & 0xffffffffffff) | (uint64_t)(h - handles);
                return h;
        }
        return NULL;
}

static void drop(struct handle *h) {
        if (h->listing)
                closedir(h->listing);
        else
                close(h->fd);
        *h = (struct handle){};
}

int file_handle_fd(uint64_t handle) {
        const struct handle *h = find(handle);

        return h && !h->listing ? h->fd : -EBADF;
}

/* open files */

/* The contents of a small file come with it. */
static void add_contents(struct file_answer *out, int fd, const struct file_call_args *a, struct file_handle_head *head) {
        size_t room = HELPER_DATA_MAX - FILE_HANDLE_HEAD_SIZE;
        ssize_t n;

        if ((a->flags & O_ACCMODE) == O_WRONLY || head->attributes.size >= room)
                return;
        n = read_at(fd, out->data + FILE_HANDLE_HEAD_SIZE, room, 0);
        if (n < 0 || (size_t)n == room)
                return;
        head->whole = 1;
        out->len += n;
}

static int answer_open(struct file_answer *out, int fd, const struct file_call_args *a) {
        struct file_handle_head head = {};
        struct handle *h;
        int r = file_read_own_attributes(fd, &head.attributes);

        if (r == 0 && !S_ISREG(head.attributes.mode))
                r = S_ISDIR(head.attributes.mode) ? -EISDIR : -ENXIO;
        h = r == 0 ? add(fd) : NULL;
        if (!h) {
                close(fd);
                return r < 0 ? r : -EMFILE;
        }
        head.handle = h->id;
        out->len = FILE_HANDLE_HEAD_SIZE;
        if (a->op == FILE_OP_OPEN)
                add_contents(out, fd, a, &head);
        file_put_handle_head(out->data, &head);
        return 0;
}

/* What is not a regular file must not even be opened, for that may do something. Should it become one, that waits for nobody. */
static int open_file(int dir, const char *name, int flags) {
        struct stat st;
        int fd;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : S_ISLNK(st.st_mode) ? -ELOOP : -ENXIO;
        fd = openat(dir, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int flags_of(const struct file_call_args *a) {
        return (int)a->flags & (O_ACCMODE | O_APPEND | O_TRUNC);
}

int file_do_open(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int dir = file_open_parent(a->dir, a->name, false);
        int fd = dir < 0 ? dir : open_file(dir, a->name, flags_of(a));

        return fd < 0 ? fd : answer_open(out, fd, a);
}

int file_do_create(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int dir = file_open_parent(a->dir, a->name, true);
        int fd, r;

        if (dir < 0)
                return dir;
        fd = openat(dir, a->name, flags_of(a) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, a->mode & 07777);
        if (fd < 0 && (errno != EEXIST || a->flags & O_EXCL))
                return -errno;
        if (fd < 0)
                fd = open_file(dir, a->name, flags_of(a));
        else if ((r = file_give(dir, a->name, a)) < 0)
                return close(fd), r;
        r = fd < 0 ? fd : answer_open(out, fd, a);
        return r < 0 ? r : file_answer_directory(out, dir);
}

static int answer_own_attributes(struct file_answer *out, int fd) {
        struct file_attributes a;
        int r = file_read_own_attributes(fd, &a);

        return file_answer_attributes(out, r, &a);
}

int file_do_stat(const struct file_call_args *a, struct file_answer *out) {
        int fd = file_handle_fd(a->handle);

        return fd < 0 ? fd : answer_own_attributes(out, fd);
}

int file_do_read(const struct file_call_args *a, struct file_answer *out) {
        size_t size = a->size < HELPER_DATA_MAX ? a->size : HELPER_DATA_MAX;
        int fd = file_handle_fd(a->handle);
        ssize_t n = fd < 0 ? fd : read_at(fd, out->data, size, a->offset);

        if (n >= 0)
                out->len = n;
        return n < 0 ? (int)n : 0;
}

int file_do_write(const struct file_call_args *a, struct file_answer *out) {
        int fd = file_handle_fd(a->handle);
        int r = fd < 0 ? fd : write_at(fd, a->data, a->len, a->offset);

        return r < 0 ? r : answer_own_attributes(out, fd);
}

int file_do_sync(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int parent = -1, dir = -1;
        int fd, r;

        if (a->handle) {
                fd = file_handle_fd(a->handle);
        } else {
                parent = file_open_parent(a->dir, ".", false);
                fd = parent;
                if (parent >= 0)
                        fd = dir = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (parent >= 0 && dir < 0)
                        return -errno;
        }
        if (fd < 0)
                return fd;
        r = a->flags & 1 ? fdatasync(fd) : fsync(fd);
        return r < 0 && errno != EINVAL && errno != EROFS ? -errno : 0;
}

int file_do_close(const struct file_call_args *a, struct file_answer *out) {
        struct handle *h = find(a->handle);

        if (!h)
                return -EBADF;
        drop(h);
        return 0;
}

int file_do_seek(const struct file_call_args *a, struct file_answer *out) {
        int fd = file_handle_fd(a->handle);
        off_t at;

        if (fd < 0)
                return fd;
        if (a->flags != SEEK_DATA && a->flags != SEEK_HOLE)
                return -EINVAL;
        at = lseek(fd, (off_t)a->offset, (int)a->flags);
        if (at < 0)
                return -errno;
        out->len = file_put_u64(out->data, (uint64_t)at);
        return 0;
}

int file_do_allocate(const struct file_call_args *a, struct file_answer *out) {
        int fd = file_handle_fd(a->handle);

        if (fd < 0)
                return fd;
        if (fallocate(fd, (int)a->flags, (off_t)a->offset, (off_t)a->size) < 0)
                return -errno;
        return answer_own_attributes(out, fd);
}

int file_do_copy(const struct file_call_args *a, struct file_answer *out) {
        int from = file_handle_fd(a->handle), to = file_handle_fd(a->handle2);
        int64_t from_offset = (int64_t)a->offset, to_offset = (int64_t)a->offset2;
        long n;

        if (from < 0 || to < 0)
                return from < 0 ? from : to;
        n = syscall(SYS_copy_file_range, from, &from_offset, to, &to_offset, a->size < COPY_MAX ? a->size : COPY_MAX, 0);
        if (n < 0)
                return -errno;
        out->len = file_put_u64(out->data, (uint64_t)n);
        return 0;
}

/* listings */

static bool is_dot(const char *name) {
        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* As many as there is room for. 1: there are more; 0: that was the end; or -errno. */
static int add_entries(struct handle *h, struct file_answer *out) {
        for (;;) {
                struct file_entry e = {};
                int r;

                errno = 0;
                if (!h->next)
                        h->next = readdir(h->listing);
                if (!h->next)
                        return -errno;
                e.name = h->next->d_name;
                e.name_len = (uint8_t)strlen(e.name);
                if (out->len + file_entry_size(e.name_len) > HELPER_DATA_MAX)
                        return 1;
                if (!is_dot(e.name) && strlen(e.name) <= NAME_MAX) {
                        r = file_read_attributes(dirfd(h->listing), e.name, &e.attributes);
                        if (r == 0)
                                out->len += file_put_entry(out->data + out->len, &e);
                        else if (r != -ENOENT)
                                return r;
                }
                h->next = NULL;
        }
}

static int open_listing(const struct file_call_args *a, struct handle **h) {
        bool hidden;
        _cleanup_(cleanup_close) int place = place_open(a->dir, &hidden);
        _cleanup_(cleanup_close) int fd = place < 0 ? -1 : openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *listing;

        if (fd < 0)
                return place < 0 ? place : -errno;
        *h = add(fd);
        if (!*h)
                return -EMFILE;
        listing = fdopendir(fd);
        if (!listing) {
                **h = (struct handle){};
                return -ENOMEM;
        }
        TAKE_FD(fd);
        (*h)->listing = listing;
        (*h)->hidden = hidden;
        return 0;
}

int file_do_list(const struct file_call_args *a, struct file_answer *out) {
        struct file_handle_head head = {};
        struct handle *h = find(a->handle);
        int r = a->handle ? h && h->listing ? 0 : -EBADF : open_listing(a, &h);

        if (r < 0)
                return r;
        head.handle = h->id;
        out->len = FILE_HANDLE_HEAD_SIZE;
        r = file_read_own_attributes(dirfd(h->listing), &head.attributes);
        if (r == 0)
                r = h->hidden ? 0 : add_entries(h, out);
        if (r <= 0) {
                drop(h);
                head.handle = 0;
        }
        file_put_handle_head(out->data, &head);
        return r < 0 ? r : 0;
}
