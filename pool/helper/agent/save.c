/* SPDX-License-Identifier: MIT */

/*
 * Writing an archive. This process comes from the host, so no job can reach it. Of the sandbox it takes only the user
 * namespace, in which it may read every file, and a descriptor of the root. It follows no link, and opens nothing but
 * regular files and directories.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <search.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/helper/agent/archive.h"
#include "pool/util/cleanup.h"

#define OWN "run/modalpool" /* the helper's own */

static struct {
        dev_t device; /* of the root */
        char path[ARCHIVE_PATH_MAX];
        size_t len;
        unsigned depth;
        void *linked; /* a tree of struct linked: files with several names, by inode */
} at;

struct linked {
        ino_t inode;
        char path[];
};

static int fail(const char *what, int r) {
        fprintf(stderr, "%s: %s\n", what, strerror(-r));
        return r;
}

/* writing */

static int put(const void *data, size_t len) {
        return fwrite(data, 1, len, stdout) == len ? 0 : errno ? -errno : -EIO;
}

static int put_head(enum archive_type type, const struct stat *st, const char *target) {
        struct archive_head head = {
                .type = type,
                .mode = st->st_mode & 07777,
                .size = type == ARCHIVE_FILE ? (uint64_t)st->st_size : 0,
                .mtime_s = st->st_mtim.tv_sec,
                .mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
                .path_len = (uint16_t)at.len,
                .target_len = (uint16_t)strlen(target),
        };
        int r = put(&head, sizeof(head));

        if (r == 0)
                r = put(at.path, at.len);
        return r == 0 ? put(target, head.target_len) : r;
}

/* A file that is cut meanwhile has a hole there. */
static int put_data(int fd, off_t from, off_t to) {
        static char piece[ARCHIVE_PIECE_MAX];
        ssize_t n = 1;
        int r = 0;

        for (; r == 0 && n > 0 && from < to; from += n) {
                size_t most = to - from < (off_t)sizeof(piece) ? (size_t)(to - from) : sizeof(piece);

                n = pread(fd, piece, most, from);
                if (n < 0)
                        return -errno;
                if (n > 0)
                        r = put(&(struct archive_piece){ (uint64_t)from, (uint64_t)n }, sizeof(struct archive_piece));
                if (r == 0)
                        r = put(piece, n);
        }
        return r;
}

static int put_contents(int fd, off_t size) {
        int r = 0;

        for (off_t data = 0, hole; r == 0 && data < size; data = hole) {
                data = lseek(fd, data, SEEK_DATA);
                if (data < 0)
                        break; /* there are holes only */
                hole = lseek(fd, data, SEEK_HOLE);
                if (hole < 0 || hole > size)
                        hole = size;
                r = put_data(fd, data, hole);
        }
        return r == 0 ? put(&(struct archive_piece){ 0, 0 }, sizeof(struct archive_piece)) : r;
}

/* entries */

static int compare_inodes(const void *a, const void *b) {
        const struct linked *x = a, *y = b;

        return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* The path under which this file is in the archive already; NULL: it is not, or there is no memory to remember it. */
static const char *find_linked(const struct stat *st) {
        struct linked *l, **found;

        if (st->st_nlink < 2)
                return NULL;
        l = malloc(sizeof(*l) + at.len + 1);
        if (!l)
                return NULL;
        l->inode = st->st_ino;
        memcpy(l->path, at.path, at.len);
        l->path[at.len] = '\0';
        found = tsearch(l, &at.linked, compare_inodes);
        if (!found || *found == l)
                return NULL;
        free(l);
        return (*found)->path;
}

static int save_file(int dir, const char *name) {
        _cleanup_(cleanup_close) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        const char *other;
        struct stat st;
        int r;

        if (fd < 0)
                return errno == ENOENT || errno == ELOOP || errno == ENXIO ? 0 : -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_dev != at.device)
                return 0;
        other = find_linked(&st);
        if (other)
                return put_head(ARCHIVE_HARD_LINK, &st, other);
        r = put_head(ARCHIVE_FILE, &st, "");
        return r == 0 ? put_contents(fd, st.st_size) : r;
}

static int save_link(int dir, const char *name, const struct stat *st) {
        char target[ARCHIVE_PATH_MAX];
        ssize_t n = readlinkat(dir, name, target, sizeof(target));

        if (n < 0)
                return errno == ENOENT || errno == EINVAL ? 0 : -errno;
        if (n == sizeof(target))
                return -ENAMETOOLONG;
        target[n] = '\0';
        return put_head(ARCHIVE_LINK, st, target);
}

static int save_directory(int dir, const char *name);

/* Sockets and devices are nothing without what made them. */
static int save_entry(int dir, const char *name, const struct stat *st) {
        if (S_ISREG(st->st_mode))
                return save_file(dir, name);
        if (S_ISDIR(st->st_mode))
                return save_directory(dir, name);
        if (S_ISLNK(st->st_mode))
                return save_link(dir, name, st);
        return S_ISFIFO(st->st_mode) ? put_head(ARCHIVE_FIFO, st, "") : 0;
}

static int save_named(int dir, const char *name) {
        size_t before = at.len, len = strlen(name);
        struct stat st;
        int r = 0;

        if (before + 1 + len >= sizeof(at.path))
                return -ENAMETOOLONG;
        if (before > 0)
                at.path[at.len++] = '/';
        memcpy(at.path + at.len, name, len);
        at.len += len;
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                r = errno == ENOENT ? 0 : -errno;
        else if (st.st_dev == at.device && (at.len != strlen(OWN) || memcmp(at.path, OWN, at.len)))
                r = save_entry(dir, name, &st);
        if (r == 0)
                at.len = before;
        return r;
}

static int save_entries(int dir) {
        int fd = fcntl(dir, F_DUPFD_CLOEXEC, 3), r = 0;
        DIR *d = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;

        if (!d) {
                r = -errno;
                close_fd(fd);
                return r;
        }
        while (r == 0 && (errno = 0, entry = readdir(d)))
                if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
                        r = save_named(dir, entry->d_name);
        if (r == 0 && errno && errno != ENOENT)
                r = -errno;
        closedir(d);
        return r;
}

static int save_directory(int dir, const char *name) {
        _cleanup_(cleanup_close) int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;
        int r;

        if (fd < 0)
                return errno == ENOENT || errno == ELOOP || errno == ENOTDIR ? 0 : -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_dev != at.device)
                return 0;
        if (at.depth++ == ARCHIVE_DEPTH_MAX)
                return -ENAMETOOLONG;
        r = put_head(ARCHIVE_DIRECTORY, &st, "");
        if (r == 0)
                r = save_entries(fd);
        at.depth--;
        return r == 0 ? put_head(ARCHIVE_DIRECTORY_END, &st, "") : r;
}

/* the sandbox */

static int open_proc(const char *pid, const char *name, int flags) {
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
        fd = open(path, flags | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Descriptors first: behind setns() /proc is the host's still, but what it lets us see is not. */
static int enter(const char *pid, int *root) {
        _cleanup_(cleanup_close) int user = open_proc(pid, "ns/user", O_RDONLY);
        struct stat st;

        *root = open_proc(pid, "root", O_RDONLY | O_DIRECTORY);
        if (user < 0 || *root < 0)
                return fail("the sandbox cannot be reached", user < 0 ? user : *root);
        if (setns(user, CLONE_NEWUSER) < 0)
                return fail("the user namespace of the sandbox", -errno);
        if (fstat(*root, &st) < 0)
                return fail("its root", -errno);
        at.device = st.st_dev;
        return 0;
}

/* Jobs could write as fast as we read. Without SIGXFSZ it is an error of write(2). */
static void set_limit(const char *text) {
        rlim_t most = strtoull(text, NULL, 10);

        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){ most, most });
}

int archive_save(const char *pid, const char *limit) {
        uint64_t magic = ARCHIVE_MAGIC;
        int root = -1, r = enter(pid, &root);

        if (r < 0)
                return 1;
        set_limit(limit);
        r = put(&magic, sizeof(magic));
        if (r == 0)
                r = save_directory(root, ".");
        if (r == 0)
                r = put_head(ARCHIVE_END, &(struct stat){}, "");
        if (r == 0 && fflush(stdout) != 0)
                r = -errno;
        if (r == 0)
                return 0;
        at.path[at.len < sizeof(at.path) ? at.len : sizeof(at.path) - 1] = '\0';
        fprintf(stderr, "/%s: %s\n", at.path, r == -EFBIG ? "the copy is larger than the sandbox may be" : strerror(-r));
        return 1;
}
