/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/helper/agent/path.h"
#include "pool/util/cleanup.h"

#define DEPTH_MAX 200 /* each level needs a descriptor; what is deeper is moved up first */
#define TOO_LONG SIZE_MAX
#define MOVED_NAME ".modalpool-removed-"

/* A walk below one directory. */
struct walk {
        struct removal *removal;
        int top;        /* that directory, where deep ones are moved to */
        unsigned moved; /* how many were */
        bool found;     /* something that goes, since this was unset */
        size_t len;     /* of the path in removal->what, 0 for "/"; TOO_LONG, so nothing below is kept */
};

enum fate {
        GOES,
        STAYS,
        STAYS_WITH_PART, /* something below it stays */
};

static enum fate fate_of(const struct walk *w) {
        const struct removal *r = w->removal;
        enum fate fate = GOES;

        if (w->len == TOO_LONG)
                return GOES;
        if (path_is_within(r->what, r->own))
                return STAYS;
        if (path_is_within(r->own, r->what))
                fate = STAYS_WITH_PART;
        for (size_t i = 0; i < r->n_kept; i++) {
                if (!path_is_within(r->kept[i], r->what))
                        continue;
                if (r->kept[i][w->len] == '\0')
                        return STAYS;
                fate = STAYS_WITH_PART;
        }
        return fate;
}

/* Returns the length before, for pop(). */
static size_t push(struct walk *w, const char *name) {
        size_t len = w->len, more = strlen(name) + 1;

        if (len == TOO_LONG || len + more >= sizeof(w->removal->what)) {
                w->len = TOO_LONG;
                return len;
        }
        w->removal->what[len] = '/';
        strcpy(w->removal->what + len + 1, name);
        w->len += more;
        return len;
}

static void pop(struct walk *w, size_t len) {
        w->len = len;
        if (len != TOO_LONG)
                w->removal->what[len] = '\0';
}

/* Removing an entry needs write and search permission on its directory. */
static int open_directory(int dir, const char *name) {
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)
                fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int empty(struct walk *w, int fd, unsigned depth);

static int remove_directory(struct walk *w, int dir, const char *name, enum fate fate, unsigned depth) {
        _cleanup_(cleanup_close) int fd = -1;
        char moved[sizeof(MOVED_NAME) + 16];
        int r;

        if (depth == DEPTH_MAX) {
                if (fate != GOES)
                        return -ELOOP;
                snprintf(moved, sizeof(moved), MOVED_NAME "%u", w->moved++);
                return renameat(dir, name, w->top, moved) < 0 ? -errno : 0;
        }
        fd = open_directory(dir, name);
        if (fd < 0)
                return fd;
        if (fate == GOES)
                (void)fchmod(fd, 0700);
        r = empty(w, fd, depth + 1);
        if (r < 0 || fate != GOES)
                return r;
        return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int remove_entry(struct walk *w, int dir, const char *name, unsigned depth) {
        enum fate fate = fate_of(w);
        int r;

        if (fate == STAYS)
                return 0;
        if (fate == GOES) {
                w->found = true;
                if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
                        return 0;
                if (errno != EISDIR && errno != EPERM)
                        return -errno;
                if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
                        return 0;
        }
        r = remove_directory(w, dir, name, fate, depth);
        return r == -ENOTDIR ? -EPERM : r; /* as of unlinkat() above */
}

static int empty(struct walk *w, int fd, unsigned depth) {
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *d = copy < 0 ? NULL : fdopendir(copy);
        struct dirent *e;

        if (!d) {
                r = -errno;
                close_fd(copy);
                return r;
        }
        while (r == 0 && (errno = 0, e = readdir(d))) {
                size_t len;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                len = push(w, e->d_name);
                r = remove_entry(w, fd, e->d_name, depth);
                if (r == 0)
                        pop(w, len);
        }
        if (r == 0)
                r = -errno;
        closedir(d);
        return r;
}

/* Again until nothing is found: directories are moved up meanwhile, and not every kernel lists all that is left. */
static int empty_top(struct walk *w, int fd) {
        int r;

        w->top = fd;
        do {
                w->found = false;
                r = empty(w, fd, 0);
        } while (r == 0 && w->found);
        return r;
}

static int begin(struct walk *w, int fd) {
        int r = path_of(fd, w->removal->what, sizeof(w->removal->what));

        w->len = r < 0 ? TOO_LONG : strlen(w->removal->what);
        w->len = w->len == 1 ? 0 : w->len;
        return r;
}

int remove_at(struct removal *removal, int dir, const char *name) {
        struct walk w = { .removal = removal };
        _cleanup_(cleanup_close) int fd = -1;
        enum fate fate;
        int r = begin(&w, dir);

        if (r < 0)
                return r;
        push(&w, name);
        fate = fate_of(&w);
        if (fate == STAYS)
                return 0;
        fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return remove_entry(&w, dir, name, 0);
        close(TAKE_FD(fd));
        fd = open_directory(dir, name);
        if (fd < 0)
                return fd;
        if (fate == GOES)
                (void)fchmod(fd, 0700);
        r = empty_top(&w, fd);
        if (r < 0 || fate != GOES)
                return r;
        return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int remove_path(struct removal *r, const char *path) {
        const char *name;
        _cleanup_(cleanup_close) int dir = path_open_parent(path, false, &name);

        snprintf(r->what, sizeof(r->what), "%s", path);
        if (dir < 0)
                return dir == -ENOENT ? 0 : dir;
        return remove_at(r, dir, name);
}

int remove_inside(struct removal *r, const char *path) {
        struct walk w = { .removal = r };
        _cleanup_(cleanup_close) int fd = path_open(path, false), all = -1;
        int e;

        snprintf(r->what, sizeof(r->what), "%s", path);
        if (fd == -ENOTDIR || fd == -ELOOP)
                return remove_path(r, path);
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        e = begin(&w, fd);
        if (e < 0)
                return e;
        all = open_directory(fd, ".");
        return all < 0 ? all : empty_top(&w, all);
}
