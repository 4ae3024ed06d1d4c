/* SPDX-License-Identifier: MIT */
#include "fs/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/io.h"

/* Where state goes unless state= says: as the file hierarchy standard and XDG have it. */
static char *default_state(void) {
        const char *home = getenv("HOME"), *xdg = getenv("XDG_STATE_HOME");
        char *path = NULL;
        int n;

        if (geteuid() == 0)
                n = asprintf(&path, "/var/lib/modalpool");
        else if (xdg && *xdg == '/')
                n = asprintf(&path, "%s/modalpool", xdg);
        else if (home && *home == '/')
                n = asprintf(&path, "%s/.local/state/modalpool", home);
        else
                n = asprintf(&path, "/var/tmp/modalpool-%u", (unsigned)geteuid());
        return n < 0 ? NULL : path;
}

/* A mountpoint as one file name: "/mnt/a-b" is "mnt-a%2Db". NULL when it is too long for one. */
static char *escape(const char *path) {
        char name[256];
        size_t n = 0;

        while (*path == '/')
                path++;
        for (; *path; path++) {
                if (n + 4 > sizeof(name) - 1)
                        return NULL;
                if (*path == '/')
                        name[n++] = '-';
                else if (*path == '-' || *path == '%' || (n == 0 && *path == '.'))
                        n += sprintf(name + n, "%%%02X", *path);
                else
                        name[n++] = *path;
        }
        name[n] = '\0';
        return strdup(n ? name : "%2F");
}

static int take_lock(struct state *s, int dir) {
        s->lock = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (s->lock < 0)
                return -errno;
        return flock(s->lock, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

/* An empty directory; what an earlier run left in it is gone. */
static int make_empty(int dir, const char *name) {
        int fd, r;

        if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = remove_contents(fd);
        if (r < 0) {
                close(fd);
                return r;
        }
        return fd;
}

static int open_in(struct state *s) {
        _cleanup_(cleanup_close) int dir = -1, environments = -1;
        struct stat st;
        int r;

        r = make_path(AT_FDCWD, s->path, 0700);
        if (r < 0)
                return r;
        dir = open(s->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir < 0)
                return -errno;
        if (fstat(dir, &st) < 0)
                return -errno;
        if (st.st_uid != geteuid())
                return -EPERM;
        r = take_lock(s, dir);
        if (r < 0)
                return r;
        environments = make_empty(dir, "environments");
        if (environments < 0)
                return environments;
        s->spool = make_empty(dir, "spool");
        return s->spool < 0 ? s->spool : 0;
}

int state_open(struct state *s, const struct config *config, const char *mountpoint, struct result *why) {
        _cleanup_(cleanup_free) char *base = *config->state ? strdup(config->state) : default_state();
        _cleanup_(cleanup_free) char *name = escape(mountpoint);
        int r;

        *s = (struct state){ .lock = -1, .spool = -1 };
        if (!name) {
                result_set(why, RESULT_INVALID, "mountpoint %s: too long a path", mountpoint);
                return -ENAMETOOLONG;
        }
        if (!base || asprintf(&s->path, "%s/%s", base, name) < 0 ||
            asprintf(&s->environments, "%s/environments", s->path) < 0) {
                result_set(why, RESULT_FAILED, "out of memory");
                return -ENOMEM;
        }
        r = open_in(s);
        if (r == -EWOULDBLOCK)
                result_set(why, RESULT_BUSY, "another modalpool serves %s (%s/lock is held)", mountpoint, s->path);
        else if (r < 0)
                result_set(why, RESULT_FAILED, "state directory %s: %s; choose another with -o state=DIR", s->path,
                           strerror(-r));
        return r;
}

void state_close(struct state *s) {
        if (s->spool >= 0)
                remove_tree(AT_FDCWD, s->path);
        close_fd(s->spool);
        close_fd(s->lock);
        free(s->path);
        free(s->environments);
        *s = (struct state){ .lock = -1, .spool = -1 };
}
