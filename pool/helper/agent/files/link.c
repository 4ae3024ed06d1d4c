/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/files/link.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pool/helper/agent/files/place.h"
#include "pool/util/cleanup.h"

static unsigned depth_of(const char *dir) {
        unsigned depth = *dir != '\0';

        for (; *dir; dir++)
                depth += *dir == '/';
        return depth;
}

/* The next part of a path, and what is behind it. False at the end. */
static bool next_part(const char **path, const char **part, size_t *len) {
        *path += strspn(*path, "/");
        *part = *path;
        *len = strcspn(*path, "/");
        *path += *len;
        return *len > 0;
}

static bool is_up(const char *part, size_t len) {
        return len == 2 && memcmp(part, "..", 2) == 0;
}

static bool is_dot(const char *part, size_t len) {
        return len == 1 && *part == '.';
}

struct shape {
        unsigned ups;     /* ".." before the first name */
        const char *rest; /* behind these */
        const char *last; /* what is behind the last "..", if that comes after a name; or NULL */
};

static struct shape look(const char *target) {
        struct shape s = { .rest = target };
        const char *path = target, *part;
        bool names = false;
        size_t len;

        while (next_part(&path, &part, &len)) {
                if (is_up(part, len) && names) {
                        s.last = path;
                } else if (is_up(part, len)) {
                        s.ups++;
                        s.rest = path;
                } else if (!is_dot(part, len)) {
                        names = true;
                }
        }
        return s;
}

static int print(char *out, size_t size, const char *dir, const char *rest) {
        int n;

        rest += strspn(rest, "/");
        n = snprintf(out, size, "%s/%s", dir, rest);
        return n >= (int)size ? -ENAMETOOLONG : n;
}

/* Where no directory is to be found on the way, by the names alone. */
static int shorten(const char *dir, const char *target, char *out, size_t size) {
        char whole[2 * PATH_MAX];
        const char *path = whole, *part;
        size_t len, n = 0;

        snprintf(whole, sizeof(whole), "%s/%s", *target == '/' ? "" : dir, target);
        while (next_part(&path, &part, &len)) {
                if (is_up(part, len)) {
                        while (n > 0 && out[--n] != '/')
                                ;
                } else if (!is_dot(part, len)) {
                        if (n + 1 + len >= size)
                                return -ENAMETOOLONG;
                        out[n++] = '/';
                        memcpy(out + n, part, len);
                        n += len;
                }
        }
        if (n == 0)
                out[n++] = '/';
        out[n] = '\0';
        return (int)n;
}

/* A ".." behind a name means the directory above the one that the name leads to, which may be a link. */
static int resolve(const char *dir, char *target, const char *last, char *out, size_t size) {
        _cleanup_(cleanup_close) int fd = -1;
        char way[PATH_MAX], found[PATH_MAX];

        snprintf(way, sizeof(way), "%.*s", (int)(last - target), target);
        fd = place_follow(dir, way);
        if (fd < 0 || place_name(fd, found, sizeof(found)) < 0)
                return shorten(dir, target, out, size);
        return print(out, size, found, last);
}

int file_readlink(int fd, const char *dir, const char *name, char *out, size_t size) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(fd, name, target, sizeof(target) - 1);
        struct shape s;

        if (n < 0)
                return -errno;
        if (n == sizeof(target) - 1)
                return -ENAMETOOLONG;
        target[n] = '\0';
        s = look(target);
        if (s.last)
                return resolve(dir, target, s.last, out, size);
        if (*target == '/' || s.ups > depth_of(dir))
                return print(out, size, "", s.rest); /* above the root there is the root */
        if ((size_t)n >= size)
                return -ENAMETOOLONG;
        memcpy(out, target, n + 1);
        return (int)n;
}
