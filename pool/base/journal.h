/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The journal: the books on disk, so that a daemon that was killed can go on.
 *
 * One SQLite file for each mount, in a directory that is locked. What is about
 * to happen outside is written down before: an environment before its create is
 * sent, a job before its start is. Each call is a transaction of its own, and
 * returns when the kernel has it: that survives the end of the process. It does
 * not wait for the disk, because nothing slow may run on the loop; a file that
 * a loss of power left damaged is put aside, and what it knew of is found at
 * the provider by the pool's id.
 *
 * The format has a number. A journal of an earlier one is brought up to date when it is opened; one of a later one is
 * refused.
 *
 * A journal that is NULL keeps nothing. Rows are borrowed for the time of a
 * call, by either side. Times are those of the pool's clock: those of an
 * earlier run, or of an earlier boot, are put right when the journal is opened.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/util/result.h"

struct journal;

struct journal_environment {
        const char *nonce;
        const char *id, *resume_token; /* "" until it is live */
        const char *workdir;     /* what a lease may have left in it, or NULL */
        uid_t user;              /* it was lent to this one; (uid_t)-1: to nobody yet */
        uint64_t uses;
        bool ending;             /* it is to be destroyed, not lent */
        int64_t created_us;
};

struct journal_lease {
        uint64_t serial, instance; /* together they name its jobs */
        const char *name;
        uid_t uid;
        gid_t gid;
        int64_t created_wall_us;
        int state, code;          /* enum lease_state, enum result_code */
        const char *error;        /* or NULL */
        const char *environment;  /* the nonce of the one it holds, or NULL */
        bool prepared;
        const char *cwd, *env;
        int64_t timeout_us;
};

struct journal_job {
        uint64_t lease; /* its serial */
        uint32_t number;
        /* As submitted; the bytes are NULL where they are in a file. */
        const void *command, *input;
        uint64_t command_len, input_len;
        const char *cwd, *env;
        int64_t timeout_us, submitted_us;
        /* As it goes. */
        int state; /* enum job_state */
        bool wanted_dead, timed_out;
        int output_refused; /* errno, or 0 */
        int64_t started_us, ended_us;
        int code, exit_code; /* enum result_code */
        const char *error;   /* or NULL */
};

/*
 * Open or make the journal at @path, or ":memory:". @backend is the provider's
 * name: what another one provides cannot be taken back, so books that are not
 * empty are refused with -EBUSY. *damaged tells that a damaged one was put aside.
 */
int journal_open(struct journal **out, const char *path, const char *backend, int64_t (*clock)(void), bool *damaged,
                 struct result *why);
void journal_close(struct journal *j);

/* Rename the one at @path, which is not open, to PATH.@suffix, in place of an older one. 0, also when there is none, or -errno. */
int journal_put_aside(const char *path, const char *suffix);

/* Nothing is in the books. */
bool journal_is_empty(struct journal *j);

/*
 * Behind: some write failed: rows may be there that should not, or not be there. Stale: and the newest write did not
 * fail. Between begin, which forgets all rows, and end, everything that is in the books is to be put. @r: how that
 * went; unless it is 0, the rows stay as they were. 0 or -errno.
 */
bool journal_is_behind(const struct journal *j);
bool journal_is_stale(const struct journal *j);
int journal_rewrite_begin(struct journal *j);
int journal_rewrite_end(struct journal *j, int r);

/* Store or replace a row; forget it. 0, -ENOSPC or what else the disk says, -ENOMEM. */
int journal_put_environment(struct journal *j, const struct journal_environment *row);
int journal_drop_environment(struct journal *j, const char *nonce);
int journal_put_lease(struct journal *j, const struct journal_lease *row);
int journal_drop_lease(struct journal *j, uint64_t serial); /* and its jobs */
int journal_add_job(struct journal *j, const struct journal_job *row);
int journal_update_job(struct journal *j, const struct journal_job *row); /* what is new as it goes */
int journal_drop_job(struct journal *j, uint64_t lease, uint32_t number);

/* Give every row to @each, which must not write; leases by serial, jobs by number. 0 or -errno, also what @each gives. */
int journal_each_environment(struct journal *j, int (*each)(void *data, const struct journal_environment *row),
                             void *data);
int journal_each_lease(struct journal *j, int (*each)(void *data, const struct journal_lease *row), void *data);
int journal_each_job(struct journal *j, uint64_t lease, int (*each)(void *data, const struct journal_job *row),
                     void *data);
