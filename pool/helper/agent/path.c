/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/helper/agent/origin.h"
#include "pool/util/cleanup.h"

bool path_normalise(char *path) {
        char *to = path;

        if (*path != '/' || strlen(path) >= PATH_MAX)
                return false;
        for (const char *from = path; *from;) {
                size_t len;

                from += strspn(from, "/");
                len = strcspn(from, "/");
                if (len > NAME_MAX || (len == 2 && memcmp(from, "..", 2) == 0))
                        return false;
                if (len > 0 && !(len == 1 && *from == '.')) {
                        *to++ = '/';
                        memmove(to, from, len);
                        to += len;
                }
                from += len;
        }
        *to = '\0';
        return to > path;
}

bool path_is_within(const char *path, const char *above) {
        size_t len = strlen(above);

        return strncmp(path, above, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static bool is_old_link(int dir, const char *name) {
        struct stat st;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISLNK(st.st_mode))
                return false;
        return st.st_ctim.tv_sec < origin.time.tv_sec ||
               (st.st_ctim.tv_sec == origin.time.tv_sec && st.st_ctim.tv_nsec < origin.time.tv_nsec);
}

static int open_part(int dir, const char *name, bool make) {
        int flags = O_PATH | O_DIRECTORY | O_CLOEXEC, fd = openat(dir, name, flags | O_NOFOLLOW);

        if (fd < 0 && errno == ENOENT && make && mkdirat(dir, name, 0755) == 0)
                fd = openat(dir, name, flags | O_NOFOLLOW);
        if (fd < 0 && (errno == ELOOP || errno == ENOTDIR)) {
                int r = -errno;

                if (!is_old_link(dir, name))
                        return r;
                fd = openat(dir, name, flags);
        }
        return fd < 0 ? -errno : fd;
}

/* The parts before @end. */
static int open_parts(const char *path, const char *end, bool make) {
        _cleanup_(cleanup_close) int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        char name[NAME_MAX + 1];

        if (fd < 0)
                return -errno;
        while (path < end) {
                size_t len = strcspn(++path, "/");
                int next;

                memcpy(name, path, len);
                name[len] = '\0';
                next = open_part(fd, name, make);
                if (next < 0)
                        return next;
                close(fd);
                fd = next;
                path += len;
        }
        return TAKE_FD(fd);
}

int path_open(const char *path, bool make) {
        return open_parts(path, path + strlen(path), make);
}

int path_open_parent(const char *path, bool make, const char **name) {
        *name = strrchr(path, '/') + 1;
        return open_parts(path, *name - 1, make);
}

int path_of(int fd, char *out, size_t size) {
        char link[32];
        ssize_t n;

        snprintf(link, sizeof(link), "self/fd/%d", fd);
        n = readlinkat(origin.proc, link, out, size - 1);
        if (n < 0)
                return -errno;
        out[n] = '\0';
        return (size_t)n == size - 1 ? -ENAMETOOLONG : 0;
}
