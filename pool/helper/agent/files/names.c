/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/files/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pool/helper/agent/files/link.h"
#include "pool/helper/agent/files/place.h"
#include "pool/util/cleanup.h"
#include "pool/util/io.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static int answer_entry(struct file_answer *out, int fd, const char *name) {
        struct file_attributes a;
        int r = file_read_attributes(fd, name, &a);

        return file_answer_attributes(out, r, &a);
}

int file_do_lookup(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int fd = file_open_parent(a->dir, a->name, false);

        return fd < 0 ? fd : answer_entry(out, fd, a->name);
}

/* what is made */

/* chown(2) takes these bits away. */
static int restore_mode(int fd, const char *name, const struct file_call_args *a) {
        if (a->uid == FILE_NO_ID || !(a->mode & (S_ISUID | S_ISGID)))
                return 0;
        return syscall(SYS_fchmodat2, fd, name, a->mode & 07777, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOSYS ? -errno : 0;
}

static int answer_made(struct file_answer *out, int fd, int made, const struct file_call_args *a) {
        int r = made < 0 ? -errno : file_give(fd, a->name, a);

        if (r == 0)
                r = restore_mode(fd, a->name, a);
        if (r == 0)
                r = answer_entry(out, fd, a->name);
        return r < 0 ? r : file_answer_directory(out, fd);
}

int file_do_mkdir(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int fd = file_open_parent(a->dir, a->name, true);

        return fd < 0 ? fd : answer_made(out, fd, mkdirat(fd, a->name, a->mode & 07777), a);
}

int file_do_mknod(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int fd = file_open_parent(a->dir, a->name, true);

        if (!S_ISREG(a->mode) && !S_ISFIFO(a->mode) && !S_ISSOCK(a->mode))
                return -EPERM;
        return fd < 0 ? fd : answer_made(out, fd, mknodat(fd, a->name, a->mode & (S_IFMT | 07777), 0), a);
}

int file_do_symlink(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int fd = file_open_parent(a->dir, a->name, true);
        struct file_call_args made = *a;
        char target[PATH_MAX];

        if (fd < 0)
                return fd;
        if (a->len == 0 || a->len >= sizeof(target) || memchr(a->data, '\0', a->len))
                return -EINVAL;
        memcpy(target, a->data, a->len);
        target[a->len] = '\0';
        made.mode = 0;
        return answer_made(out, fd, symlinkat(target, fd, a->name), &made);
}

int file_do_link(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int from = file_open_parent(a->dir, a->name, true);
        _cleanup_(cleanup_close) int to = from < 0 ? -1 : file_open_parent(a->dir2, a->name2, true);
        int r;

        if (from < 0 || to < 0)
                return from < 0 ? from : to;
        r = linkat(from, a->name, to, a->name2, 0) < 0 ? -errno : answer_entry(out, to, a->name2);
        return r < 0 ? r : file_answer_directory(out, to);
}

/* what goes */

static int remove_name(const struct file_call_args *a, int flags, struct file_answer *out) {
        _cleanup_(cleanup_close) int fd = file_open_parent(a->dir, a->name, true);

        if (fd < 0)
                return fd;
        return unlinkat(fd, a->name, flags) < 0 ? -errno : file_answer_directory(out, fd);
}

int file_do_unlink(const struct file_call_args *a, struct file_answer *out) {
        return remove_name(a, 0, out);
}

int file_do_rmdir(const struct file_call_args *a, struct file_answer *out) {
        return remove_name(a, AT_REMOVEDIR, out);
}

int file_do_rename(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int from = file_open_parent(a->dir, a->name, true);
        _cleanup_(cleanup_close) int to = from < 0 ? -1 : file_open_parent(a->dir2, a->name2, true);
        int r;

        if (from < 0 || to < 0)
                return from < 0 ? from : to;
        if (a->flags == 0)
                r = renameat(from, a->name, to, a->name2);
        else
                r = (int)syscall(SYS_renameat2, from, a->name, to, a->name2, a->flags);
        r = r < 0 ? -errno : file_answer_directory(out, from);
        return r < 0 ? r : file_answer_directory(out, to);
}

/* A job that starts afresh does the same. */
int file_do_prepare(const struct file_call_args *a, struct file_answer *out) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof(path), "%s%.*s", place_root_path, (int)a->len, (const char *)a->data), r = 0;

        if (a->len == 0 || *(const char *)a->data != '/' || n >= (int)sizeof(path))
                return -EINVAL;
        if (a->flags & FILE_PREPARE_FRESH)
                r = remove_tree(AT_FDCWD, path);
        return r < 0 ? r : make_path(AT_FDCWD, path, 0755);
}

/* attributes are set */

static int set_size(const struct file_call_args *a, int fd) {
        _cleanup_(cleanup_close) int file = -1;
        struct stat st;

        if (a->handle)
                return ftruncate(fd, (off_t)a->size) < 0 ? -errno : 0;
        file = openat(fd, a->name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (file < 0 || fstat(file, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        return ftruncate(file, (off_t)a->size) < 0 ? -errno : 0;
}

static int set_mode(const struct file_call_args *a, int fd) {
        _cleanup_(cleanup_close) int file = -1;

        if (a->handle)
                return fchmod(fd, a->mode & 07777) < 0 ? -errno : 0;
        if (syscall(SYS_fchmodat2, fd, a->name, a->mode & 07777, AT_SYMLINK_NOFOLLOW) == 0)
                return 0;
        if (errno != ENOSYS && errno != EPERM)
                return -errno;
        /* Linux before 6.6. Not what can only be opened by two. */
        file = openat(fd, a->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        return file < 0 || fchmod(file, a->mode & 07777) < 0 ? -errno : 0;
}

static int set_owner(const struct file_call_args *a, int fd) {
        uid_t uid = a->which & FILE_SET_UID ? a->uid : (uid_t)-1;
        gid_t gid = a->which & FILE_SET_GID ? a->gid : (gid_t)-1;
        int r = a->handle ? fchown(fd, uid, gid) : fchownat(fd, a->name, uid, gid, AT_SYMLINK_NOFOLLOW);

        return r < 0 ? -errno : 0;
}

static struct timespec time_to_set(uint32_t which, uint32_t set, uint32_t now, const struct file_time *t) {
        if (which & now)
                return (struct timespec){ .tv_nsec = UTIME_NOW };
        if (which & set)
                return (struct timespec){ .tv_sec = t->s, .tv_nsec = t->ns };
        return (struct timespec){ .tv_nsec = UTIME_OMIT };
}

static int set_times(const struct file_call_args *a, int fd) {
        struct timespec times[] = {
                time_to_set(a->which, FILE_SET_ATIME, FILE_SET_ATIME_NOW, &a->atime),
                time_to_set(a->which, FILE_SET_MTIME, FILE_SET_MTIME_NOW, &a->mtime),
        };
        int r = a->handle ? futimens(fd, times) : utimensat(fd, a->name, times, AT_SYMLINK_NOFOLLOW);

        return r < 0 ? -errno : 0;
}

int file_do_set(const struct file_call_args *a, struct file_answer *out) {
        const uint32_t times = FILE_SET_ATIME | FILE_SET_MTIME | FILE_SET_ATIME_NOW | FILE_SET_MTIME_NOW;
        _cleanup_(cleanup_close) int parent = -1;
        struct file_attributes now;
        int fd, r = 0;

        fd = a->handle ? file_handle_fd(a->handle) : (parent = file_open_parent(a->dir, a->name, false));
        if (fd < 0)
                return fd;
        if (a->which & FILE_SET_SIZE)
                r = set_size(a, fd);
        if (r == 0 && a->which & (FILE_SET_UID | FILE_SET_GID))
                r = set_owner(a, fd);
        if (r == 0 && a->which & FILE_SET_MODE)
                r = set_mode(a, fd);
        if (r == 0 && a->which & times)
                r = set_times(a, fd);
        if (r == 0)
                r = a->handle ? file_read_own_attributes(fd, &now) : file_read_attributes(fd, a->name, &now);
        return file_answer_attributes(out, r, &now);
}

/* the rest */

int file_do_readlink(const struct file_call_args *a, struct file_answer *out) {
        _cleanup_(cleanup_close) int fd = file_open_parent(a->dir, a->name, false);
        int n = fd < 0 ? fd : file_readlink(fd, a->dir, a->name, (char *)out->data, PATH_MAX);

        if (n >= 0)
                out->len = n;
        return n < 0 ? n : 0;
}

int file_do_statfs(const struct file_call_args *a, struct file_answer *out) {
        bool hidden;
        _cleanup_(cleanup_close) int fd = place_open(a->dir, &hidden);
        struct statvfs st;

        if (fd < 0)
                return fd;
        if (fstatvfs(fd, &st) < 0)
                return -errno;
        out->len = file_put_space(out->data, &(struct file_space){
                                                     .block_size = st.f_bsize,
                                                     .fragment_size = st.f_frsize,
                                                     .blocks = st.f_blocks,
                                                     .free_blocks = st.f_bfree,
                                                     .available_blocks = st.f_bavail,
                                                     .files = st.f_files,
                                                     .free_files = st.f_ffree,
                                                     .name_max = st.f_namemax,
                                             });
        return 0;
}
