/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/files/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "pool/helper/agent/files/place.h"

int file_open_parent(const char *dir, const char *name, bool change) {
        bool hidden = false, self = strcmp(name, ".") == 0;
        int fd;

        if (!(self && !change) && !place_is_name(name))
                return -EINVAL;
        fd = place_open(dir, &hidden);
        if (fd >= 0 && hidden && !self) {
                close(fd);
                return change ? -EPERM : -ENOENT;
        }
        return fd;
}

static struct file_time time_of(const struct timespec *t) {
        return (struct file_time){ .s = t->tv_sec, .ns = (uint32_t)t->tv_nsec };
}

static void take_stat(const struct stat *st, struct file_attributes *out) {
        *out = (struct file_attributes){
                .mode = st->st_mode,
                .nlink = (uint32_t)st->st_nlink,
                .uid = st->st_uid,
                .gid = st->st_gid,
                .ino = st->st_ino,
                .dev = st->st_dev,
                .size = (uint64_t)st->st_size,
                .blocks = (uint64_t)st->st_blocks,
                .rdev = st->st_rdev,
                .atime = time_of(&st->st_atim),
                .mtime = time_of(&st->st_mtim),
                .ctime = time_of(&st->st_ctim),
        };
}

int file_read_attributes(int fd, const char *name, struct file_attributes *out) {
        struct stat st;

        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        take_stat(&st, out);
        /* Only from the current directory can that be asked without following a link. */
        if (fchdir(fd) == 0 && llistxattr(name, NULL, 0) > 0)
                out->flags |= FILE_HAS_XATTRS;
        return 0;
}

int file_read_own_attributes(int fd, struct file_attributes *out) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        take_stat(&st, out);
        if (flistxattr(fd, NULL, 0) > 0)
                out->flags |= FILE_HAS_XATTRS;
        return 0;
}

int file_answer_attributes(struct file_answer *out, int r, const struct file_attributes *a) {
        if (r == 0)
                out->len += file_put_attributes(out->data + out->len, a);
        return r;
}

/* What is made in a directory with S_ISGID keeps the group that it has got. */
int file_give(int fd, const char *name, const struct file_call_args *a) {
        struct stat parent;
        gid_t gid = a->gid;

        if (a->uid == FILE_NO_ID && a->gid == FILE_NO_ID)
                return 0;
        if (fstat(fd, &parent) == 0 && parent.st_mode & S_ISGID)
                gid = (gid_t)-1;
        return fchownat(fd, name, a->uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int file_answer_directory(struct file_answer *out, int fd) {
        struct file_attributes a;
        int r = file_read_attributes(fd, ".", &a);

        return file_answer_attributes(out, r, &a);
}
