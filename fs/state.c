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
#include "pool/util/clock.h"
#include "pool/util/io.h"
#include "pool/util/log.h"

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

static int make_directory(int dir, const char *name) {
        int fd;

        if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Not in the journal: when that is damaged, this is what finds the sandboxes it knew of. */
static int read_pool_id(struct state *s, int dir) {
        _cleanup_(cleanup_close) int fd = openat(dir, "pool", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        ssize_t n;
        int r;

        if (fd >= 0) {
                n = read_at(fd, s->pool_id, UUID_SIZE - 1, 0);
                return n < 0 ? (int)n : n == UUID_SIZE - 1 ? 0 : -EUCLEAN;
        }
        if (errno != ENOENT)
                return -errno;
        r = uuid_make(s->pool_id);
        if (r < 0)
                return r;
        fd = openat(dir, "pool.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        r = write_at(fd, s->pool_id, UUID_SIZE - 1, 0);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        if (r == 0 && renameat(dir, "pool.new", dir, "pool") < 0)
                r = -errno;
        return r;
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
        r = read_pool_id(s, dir);
        if (r < 0)
                return r;
        environments = make_directory(dir, "environments");
        r = environments < 0 ? environments : remove_contents(environments); /* they ended with their daemon */
        if (r < 0)
                return r;
        s->spool = make_directory(dir, "spool");
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
            asprintf(&s->environments, "%s/environments", s->path) < 0 ||
            asprintf(&s->journal, "%s/journal", s->path) < 0) {
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

int state_open_journal(const struct state *s, const struct config *config, struct journal **out, struct result *why) {
        bool damaged;
        int r = journal_open(out, s->journal, config->backend, clock_now, &damaged, why);

        if (r == 0 && damaged)
                log_error("journal %s: damaged, put aside as %s.damaged; the leases and jobs of the earlier run are lost, "
                          "its environments are found at the provider and ended",
                          s->journal, s->journal);
        return r;
}

void state_close(struct state *s, bool keep) {
        if (s->spool >= 0 && !keep)
                remove_tree(AT_FDCWD, s->path);
        close_fd(s->spool);
        close_fd(s->lock);
        free(s->path);
        free(s->environments);
        free(s->journal);
        *s = (struct state){ .lock = -1, .spool = -1 };
}
