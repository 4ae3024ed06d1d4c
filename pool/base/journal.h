/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The journal: pools, snapshots, environments, leases and jobs on disk, so that the next daemon
 * can go on where one was killed.
 *
 * Each mount has one SQLite file, in a locked directory. The pool writes to it
 * before it acts outside: an environment before its create is sent, a job
 * before its start is sent.
 *
 * Each call is a transaction. It returns when the kernel has the data, which
 * then survives the end of the process. It does not wait for the disk, because
 * nothing slow may run on the loop. So a loss of power can damage the file. A
 * damaged file is renamed, and its environments are found at the provider by
 * the pool's id.
 *
 * The format has a number. Opening a journal of an earlier format migrates it.
 * A journal of a later format is refused.
 *
 * The journal stores what it is given. Whoever reads a row checks its states
 * before they index anything.
 *
 * A journal that is NULL keeps nothing. Rows are borrowed for the time of a
 * call, by either side. Times are those of the pool's clock. Opening a journal
 * converts the times of an earlier boot.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/util/result.h"

struct journal;

struct journal_pool {
        uint64_t serial;
        const char *name;
        uid_t uid;
        gid_t gid;
        int64_t created_wall_us;
        const char *options; /* its own, as they were given: a JSON object of texts */
        bool made;           /* an environment was made in it, so that not all options may change */
};

struct journal_snapshot {
        const char *id;
        uint64_t pool;           /* the serial of the pool that it is for; there may be none */
        const char *environment; /* the nonce of the one that it is taken of */
        const char *image;       /* the provider's name of it; "" until it is known */
        const char *workdir;     /* of leases in its pool */
        int state, code;         /* enum snapshot_state, enum result_code */
        const char *error;       /* or NULL */
};

struct journal_environment {
        const char *nonce;
        uint64_t pool;           /* its serial; 0: the mount's own */
        const char *id, *resume_token; /* "" until it is live */
        const char *workdir;     /* of the newest job there, until it is cleaned; or NULL */
        uid_t user;              /* the user it was lent to; (uid_t)-1: it was never lent */
        uint64_t uses;
        bool ending;             /* to be destroyed, never lent again */
        int64_t created_us;
};

struct journal_lease {
        uint64_t serial, instance; /* together they name its jobs */
        uint64_t pool;            /* its serial; 0: the mount's own */
        const char *name;
        uid_t uid;
        gid_t gid;
        int64_t created_wall_us;
        int state, code;          /* enum lease_state, enum result_code */
        const char *error;        /* or NULL */
        const char *environment;  /* the nonce of the one it holds, or NULL */
        bool prepared;
        uint32_t last_named;      /* the number of the newest job with a name that was dropped; 0: none was */
        const char *user; /* or NULL */
        const char *cwd, *env;
        int64_t timeout_us;
};

enum journal_live_input {
        JOURNAL_NO_LIVE_INPUT,
        JOURNAL_LIVE_INPUT_OPEN,
        JOURNAL_LIVE_INPUT_ENDED,
};

struct journal_job {
        uint64_t lease; /* its serial */
        uint32_t number;
        const char *name; /* NULL: cmd's; "": its name was removed */
        /* As submitted, or as set in a draft. The bytes are NULL if they are in a file. */
        const void *command, *input;
        uint64_t command_len, input_len;
        const char *cwd, *env;
        int64_t timeout_us, submitted_us;
        enum journal_live_input live_input;
        const char *user;  /* or NULL */
        uint32_t terminal; /* its rows << 16 | its columns; 0: none */
        /* What changes while it runs. */
        int state; /* enum job_state */
        bool wanted_dead, timed_out;
        int output_refused; /* errno, or 0 */
        int64_t started_us, ended_us;
        int code, exit_code; /* enum result_code */
        const char *error;   /* or NULL */
};

/*
 * Open or make the journal at @path, or ":memory:". @backend is the provider's
 * name. Another provider's environments cannot be taken back, so a journal that
 * has any is refused with -EBUSY. *damaged: a damaged journal was put aside.
 */
int journal_open(struct journal **out, const char *path, const char *backend, int64_t (*clock)(void), bool *damaged,
                 struct result *why);
void journal_close(struct journal *j);

/*
 * The number of this run: higher than that of any before it on this journal, and @wall_us at least, so that of runs on two
 * copies of a journal the later one has the higher number. It is on the disk when this returns. 0 or -errno.
 */
int journal_raise_epoch(struct journal *j, int64_t wall_us, uint64_t *epoch);

/*
 * Whether an earlier run wrote this journal, and none before has set this mark. Sets it. @mark: a literal that names what
 * has changed since.
 */
bool journal_mark(struct journal *j, const char *mark);

/*
 * Rename the journal at @path, which is not open, to PATH.@suffix, and replace an older file of that name. 0, also when
 * there is no journal, or -errno.
 */
int journal_put_aside(const char *path, const char *suffix);

/* Whether it has neither pools nor snapshots nor environments nor leases. */
bool journal_is_empty(struct journal *j);

/*
 * Behind: a write failed, so rows are missing or left over. Stale: behind, and the newest write succeeded, so that a
 * rewrite is worth trying.
 *
 * A rewrite: begin deletes all rows, the caller then puts everything that it has, and end commits. @r is the caller's
 * result; unless it is 0, the old rows stay. 0 or -errno.
 */
bool journal_is_behind(const struct journal *j);
bool journal_is_stale(const struct journal *j);
int journal_rewrite_begin(struct journal *j);
int journal_rewrite_end(struct journal *j, int r);

/* Store or replace a row; delete it. 0, -ENOSPC or another error of the disk, -ENOMEM. */
int journal_put_pool(struct journal *j, const struct journal_pool *row);
int journal_drop_pool(struct journal *j, uint64_t serial); /* not what is in it */
int journal_put_snapshot(struct journal *j, const struct journal_snapshot *row);
int journal_drop_snapshot(struct journal *j, const char *id);
int journal_put_environment(struct journal *j, const struct journal_environment *row);
int journal_drop_environment(struct journal *j, const char *nonce);
int journal_put_lease(struct journal *j, const struct journal_lease *row);
int journal_drop_lease(struct journal *j, uint64_t serial); /* and its jobs */
int journal_add_job(struct journal *j, const struct journal_job *row);
int journal_update_job(struct journal *j, const struct journal_job *row); /* only what changes while it runs */
int journal_drop_job(struct journal *j, uint64_t lease, uint32_t number);

/*
 * Give every row to @each, which must not write to the journal: pools and leases in order of their serials, jobs of their
 * numbers. An error of @each ends it. 0 or -errno.
 */
int journal_each_pool(struct journal *j, int (*each)(void *data, const struct journal_pool *row), void *data);
int journal_each_snapshot(struct journal *j, int (*each)(void *data, const struct journal_snapshot *row), void *data);
int journal_each_environment(struct journal *j, int (*each)(void *data, const struct journal_environment *row),
                             void *data);
int journal_each_lease(struct journal *j, int (*each)(void *data, const struct journal_lease *row), void *data);
int journal_each_job(struct journal *j, uint64_t lease, int (*each)(void *data, const struct journal_job *row),
                     void *data);
