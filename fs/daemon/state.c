/* SPDX-License-Identifier: MIT */
#include "fs/daemon/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/daemon/pool-id.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"
#include "pool/util/log.h"
#include "pool/util/trust.h"

/* The default of state=, as in the file hierarchy standard and in XDG. */
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

/* The mountpoint as one file name: "/mnt/a-b" is "mnt-a%2Db". NULL if it is too long. */
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

/* The journal belongs to another pool, which still uses its environments: put it aside, and begin a new pool. */
static int leave_to_original(struct state *s, int dir, const char *machine) {
        char original[UUID_SIZE];
        int r;

        memcpy(original, s->pool_id, sizeof(original));
        r = journal_put_aside(s->journal, "copied");
        if (r == 0)
                r = pool_id_make(dir, s->path, machine, s->pool_id);
        if (r == 0)
                log_warning("state directory %s: a copy, made on another machine or at another path; its environments are "
                            "left to pool %s, and this is a new pool",
                            s->path, original);
        return r;
}

static int take_pool_id(struct state *s, int dir, bool renew, struct result *why) {
        char machine[MACHINE_ID_SIZE];
        int r;

        machine_id_read(machine);
        r = pool_id_read(dir, s->path, machine, s->pool_id);
        if (r == -ENOENT)
                r = pool_id_make(dir, s->path, machine, s->pool_id);
        if (r == -EXDEV && !renew) {
                result_set(why, RESULT_INVALID, "state directory %s: a copy, made on another machine or at another path; "
                           "the environments of pool %s are ended there", s->path, s->pool_id);
                return r;
        }
        return r == -EXDEV ? leave_to_original(s, dir, machine) : r;
}

static int open_in(struct state *s, bool renew, struct result *why) {
        _cleanup_(cleanup_close) int dir = -1, environments = -1;
        struct result wrong;
        char *real;
        int r;

        dir = open_trusted(s->path, &real, &wrong);
        if (dir < 0) {
                result_set(why, RESULT_FAILED, "state directory %s: %s; choose another with -o state=DIR", s->path,
                           wrong.text);
                return dir;
        }
        free(s->path);
        s->path = real;
        /* SQLite takes a path, not a descriptor. That is safe, because only we and root can put another file there. */
        if (asprintf(&s->environments, "%s/environments", s->path) < 0 ||
            asprintf(&s->snapshots, "%s/snapshots", s->path) < 0 || asprintf(&s->journal, "%s/journal", s->path) < 0)
                return -ENOMEM;
        r = take_lock(s, dir);
        if (r == 0)
                r = take_pool_id(s, dir, renew, why);
        if (r < 0)
                return r;
        environments = make_directory(dir, "environments");
        if (environments < 0)
                return environments;
        /*
         * They ended with their daemon, or are about to. No path is used twice, so what is left of them does no harm.
         */
        r = remove_contents(environments);
        if (r < 0)
                log_warning("%s: what an earlier run left is not removed: %s", s->environments, strerror(-r));
        s->spool = make_directory(dir, "spool");
        return s->spool < 0 ? s->spool : 0;
}

int state_open(struct state *s, const struct config *config, const char *mountpoint, bool renew, struct result *why) {
        _cleanup_(cleanup_free) char *base = *config->state ? strdup(config->state) : default_state();
        _cleanup_(cleanup_free) char *name = escape(mountpoint);
        int r;

        *s = (struct state){ .lock = -1, .spool = -1 };
        if (!name) {
                result_set(why, RESULT_INVALID, "mountpoint %s: too long a path", mountpoint);
                return -ENAMETOOLONG;
        }
        if (!base || asprintf(&s->path, "%s/%s", base, name) < 0) {
                s->path = NULL;
                result_set(why, RESULT_FAILED, "out of memory");
                return -ENOMEM;
        }
        why->text[0] = '\0';
        r = open_in(s, renew, why);
        if (r == -EWOULDBLOCK)
                result_set(why, RESULT_BUSY, "another modalpool serves %s (%s/lock is held)", mountpoint, s->path);
        else if (r < 0 && !*why->text)
                result_set(why, RESULT_FAILED, "state directory %s: %s; choose another with -o state=DIR", s->path,
                           strerror(-r));
        return r;
}

int state_open_journal(struct state *s, const char *provider, struct journal **out, struct result *why) {
        bool damaged;
        int r = journal_open(out, s->journal, provider, clock_now, &damaged, why);

        if (r == 0 && damaged)
                log_error("journal %s: damaged, put aside as %s.damaged; the leases and jobs of the earlier run are lost, "
                          "its environments are found at the provider and ended",
                          s->journal, s->journal);
        if (r == 0)
                r = journal_raise_epoch(*out, clock_read_us(CLOCK_REALTIME), &s->epoch);
        if (r < 0 && !*why->text)
                result_set(why, RESULT_FAILED, "journal %s: %s", s->journal, strerror(-r));
        return r;
}

void state_close(struct state *s, bool keep) {
        if (s->spool >= 0 && !keep)
                remove_tree(AT_FDCWD, s->path);
        close_fd(s->spool);
        close_fd(s->lock);
        free(s->path);
        free(s->environments);
        free(s->snapshots);
        free(s->journal);
        *s = (struct state){ .lock = -1, .spool = -1 };
}
