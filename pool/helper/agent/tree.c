/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "pool/helper/agent/digest.h"

#define ATTRIBUTES_MAX 4096 /* bytes of their names, and of each value; of more only the error counts */

int tree_push(struct tree *t, const char *name) {
        size_t more = strlen(name) + 1;

        if (t->len + more >= sizeof(t->path))
                return -ENAMETOOLONG;
        t->path[t->len] = '/';
        strcpy(t->path + t->len + 1, name);
        t->len += more;
        return 0;
}

void tree_pop(struct tree *t, size_t len) {
        t->len = len;
        t->path[len] = '\0';
}

const char *tree_path(const struct tree *t) {
        return t->len == 0 ? "/" : t->path;
}

static uint64_t add_time(uint64_t digest, const struct timespec *t) {
        return digest_add(digest_add(digest, (uint64_t)t->tv_sec), (uint64_t)t->tv_nsec);
}

static uint64_t add_owner(uint64_t digest, const struct stat *st) {
        return digest_add(digest_add(digest, st->st_mode), (uint64_t)st->st_uid << 32 | st->st_gid);
}

static uint64_t add_link(uint64_t digest, int dir, const char *name) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(dir, name, target, sizeof(target));

        return n < 0 ? digest_add(digest, errno) : digest_add_bytes(digest, target, n);
}

int tree_read(const struct tree *t, int dir, const char *name, bool bounded, struct tree_entry *e) {
        uint64_t digest = digest_add_string(0, name);
        struct stat st;

        *e = (struct tree_entry){ .boundary = bounded ? boundary_at(t->boundaries, t->path) : BOUNDARY_NONE };
        if (e->boundary == BOUNDARY_NONE) {
                if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return -errno;
                e->directory = S_ISDIR(st.st_mode);
                e->ctime = st.st_ctim;
        }
        if (e->boundary != BOUNDARY_NONE || e->directory) {
                e->digest = digest;
                return 0;
        }
        digest = add_owner(digest, &st);
        if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
                e->digest = digest_add(digest, st.st_rdev);
                return 0;
        }
        digest = add_time(add_time(digest_add(digest, (uint64_t)st.st_size), &st.st_mtim), &st.st_ctim);
        e->digest = S_ISLNK(st.st_mode) ? add_link(digest, dir, name) : digest;
        return 0;
}

int tree_open(int dir, const char *name) {
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/* Added up: their order does not matter. */
static uint64_t attributes_digest(int fd) {
        static char names[ATTRIBUTES_MAX], value[ATTRIBUTES_MAX];
        ssize_t len = flistxattr(fd, names, sizeof(names));
        uint64_t sum = 0;

        if (len < 0)
                return errno == ENOTSUP || errno == ENOSYS ? 0 : (uint64_t)errno;
        for (const char *name = names; name < names + len; name += strlen(name) + 1) {
                ssize_t n = fgetxattr(fd, name, value, sizeof(value));
                uint64_t digest = digest_add_string(0, name);

                sum += n < 0 ? digest_add(digest, errno) : digest_add_bytes(digest, value, n);
        }
        return sum;
}

int tree_read_directory(int fd, uint32_t *own, int64_t *mtime_ns) {
        struct stat st;
        uint64_t digest;

        if (fstat(fd, &st) < 0)
                return -errno;
        digest = digest_add(add_owner(0, &st), attributes_digest(fd));
        *own = (uint32_t)(digest ^ digest >> 32);
        *mtime_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
        return 0;
}
