/* SPDX-License-Identifier: MIT */
#include "pool/util/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/util/cleanup.h"

#define REMOVE_DEPTH_MAX 500 /* each level needs a descriptor and a stack frame; a deeper tree is not removed: ELOOP */

bool is_shortage(int r) {
        return r == -EMFILE || r == -ENFILE || r == -EAGAIN || r == -ENOBUFS || r == -ETOOMANYREFS;
}

bool descriptor_is_left(void) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return !is_shortage(-errno);
        close(fd);
        return true;
}

static inline int write_all(int fd, const void *data, size_t len, uint64_t offset) {
        const char *p = data;

        while (len > 0) {
                ssize_t n = pwrite(fd, p, len, offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                p += n;
                len -= n;
                offset += n;
        }
        return 0;
}

int write_at(int fd, const void *data, size_t len, uint64_t offset) {
        return write_all(fd, data, len, offset);
}

int append_at(int fd, const void *data, size_t len, uint64_t end) {
        int r = write_all(fd, data, len, end);

        return r < 0 && ftruncate(fd, end) < 0 ? -errno : r;
}

ssize_t read_at(int fd, void *data, size_t len, uint64_t offset) {
        size_t done = 0;

        while (done < len) {
                ssize_t n = pread(fd, (char *)data + done, len - done, offset + done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += n;
        }
        return done;
}

/* Another process may remove the same files at the same time, so a missing file counts as removed. */

static int open_directory(int dir, const char *name) {
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)
                fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        /* Removing an entry needs write and search permission on its directory. */
        (void)fchmod(fd, 0700);
        return fd;
}

static int remove_below(int fd, unsigned depth);

static int remove_entry(int dir, const char *name, unsigned depth) {
        _cleanup_(cleanup_close) int fd = -1;
        int r;

        if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR && errno != EPERM)
                return -errno;
        if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
                return 0;
        if (depth == REMOVE_DEPTH_MAX)
                return -ELOOP;
        fd = open_directory(dir, name);
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        r = remove_below(fd, depth + 1);
        if (r < 0)
                return r;
        return unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int remove_below(int fd, unsigned depth) {
        int copy, r = 0;
        DIR *d;

        copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (copy < 0)
                return errno == ENOENT ? 0 : -errno;
        d = fdopendir(copy);
        if (!d) {
                close(copy);
                return -ENOMEM;
        }
        while (r == 0) {
                struct dirent *e;

                errno = 0;
                e = readdir(d);
                if (!e) {
                        r = -errno;
                        break;
                }
                if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
                        r = remove_entry(fd, e->d_name, depth);
        }
        closedir(d);
        return r;
}

int remove_contents(int fd) {
        return remove_below(fd, 0);
}

int remove_tree(int dir, const char *name) {
        return remove_entry(dir, name, 0);
}

int make_path(int dir, const char *path, mode_t mode) {
        _cleanup_(cleanup_free) char *copy = strdup(path);
        struct stat st;

        if (!copy)
                return -ENOMEM;
        if (!*copy)
                return -ENOENT;
        for (char *slash = copy; slash;) {
                slash = strchr(slash + 1, '/');
                if (slash)
                        *slash = '\0';
                if (mkdirat(dir, copy, mode) < 0 && errno != EEXIST)
                        return -errno;
                if (slash)
                        *slash = '/';
        }
        if (fstatat(dir, path, &st, 0) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}
