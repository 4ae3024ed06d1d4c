/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A job: one command, from its submission to the last reader of its output.
 *
 *   draft → queued → starting → running → ended
 *   and from each of the first four → ended, without an exit code
 *
 * Before its submission it is a draft. That of a command that is being written to
 * `cmd` is only the memory for it, taken while whoever writes can still be told
 * that there is none. One with a name was made by mkdir, and stands in its lease.
 *
 * Made by a lease and shared with readers, a reference each. The lease moves
 * it along; a job on its own does nothing.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "pool/base/journal.h"
#include "pool/lease/limits.h"
#include "pool/lease/live-input.h"
#include "pool/lease/settings.h"
#include "pool/lease/spool.h"
#include "pool/util/blob.h"
#include "pool/util/list.h"
#include "pool/util/result.h"

enum job_state {
        JOB_QUEUED,
        JOB_STARTING, /* handed to the backend */
        JOB_RUNNING,
        JOB_ENDED,
        JOB_DRAFT,
        JOB_N_STATES, /* the journal has their numbers */
};

/* What the daemon has decided about how a job ends. A later one replaces an earlier one, never the other way round. */
enum job_fate {
        JOB_FATE_OWN,         /* it ends by itself */
        JOB_FATE_KILLED,      /* it was killed: through ctl, or because background processes held its output open */
        JOB_FATE_OUTPUT_MAX,  /* it was killed because its output passed output_max, or the quota */
        JOB_FATE_TIMEOUT,     /* it was killed because its time was up */
        JOB_FATE_OUTPUT_LOST, /* it was killed because its output could not be stored */
};

/* How a job ended. */
enum job_end {
        JOB_END_OK,        /* exit code 0 */
        JOB_END_FAILED,    /* another exit code of its own */
        JOB_END_TIMEOUT,   /* killed after its timeout */
        JOB_END_KILLED,    /* killed through ctl, or by the release of its lease */
        JOB_END_OUTPUT,    /* killed because its output passed output_max or the quota, or could not be stored */
        JOB_END_CANCELLED, /* it never ran */
        JOB_END_LOST,      /* its environment was lost */
        JOB_END_UNKNOWN,   /* its environment lives, but how it ended cannot be known */
        JOB_N_ENDS,
};

/* What the backend has said of a job whose time is up by our clock. */
enum job_poll {
        JOB_POLL_NONE,   /* it was not asked */
        JOB_POLL_ASKED,  /* it has not answered, or the job runs and is killed */
        JOB_POLL_IN_TIME /* the job's shell ended in time, but its output is not complete */
};

/* What unlink and rmdir did to a directory. See lease_hide() and lease_renew_directory(). */
struct hidden {
        uint64_t files; /* whose names unlink took away: a bit each, while @round is that of the lease */
        uint64_t round;
        unsigned generation; /* how many rmdirs it has outlived */
};

/* Who opened the file that its command was written to. */
struct job_client {
        uid_t uid;
        gid_t gid;
        pid_t pid; /* 0: it is not known, as after a restart, or in a PID namespace that the daemon does not see */
        char program[16]; /* the name that its process gave itself; "" */
};

struct job {
        struct list link;     /* in one of its lease's lists of jobs, oldest first */
        struct list turn;     /* in its lease's list of queued, or of running jobs, while it is that */
        struct list deadline; /* in the list of deadlines, while starting or running */
        struct list watches;  /* told of each change */
        unsigned refs;
        uint32_t number; /* within the lease: of cmd's from 1, of those with names from JOB_NAMED_FIRST; 0: cmd's draft */
        char *name;      /* in jobs/; NULL: it is cmd's */
        bool forgotten;  /* the name was removed: it is killed, and then dropped */
        UT_hash_handle hh_name;
        enum job_state state;
        void *lease; /* who runs it; NULL once ended */

        /* What to run. */
        struct blob command;
        struct settings settings;
        struct job_client client;
        struct live_input *live_input; /* in place of settings.input; or NULL */

        /* How it goes. */
        struct exec *exec; /* while starting or running */
        bool resumed;      /* it was started by an earlier run, or handed over */
        uint64_t signals;   /* bit N - 1 for each signal N that is to be sent once it is followed again after a restart */
        enum job_fate fate; /* unless it is the job's own, the deadline is for its end */
        enum job_poll poll;
        int output_error; /* -errno: bytes of its output were dropped, and no more are taken; 0: none were */
        bool written_as_starting; /* the journal has it so, while it still is queued */
        int64_t due_us; /* when to do the next thing about it, or USEC_NEVER */
        int64_t submitted_us, started_us, ended_us; /* 0: not yet */
        int64_t submitted_wall_us, changed_wall_us; /* wall time of the submission; of the newest state or remark; by its lease */
        struct spool *spool;
        struct quota_account *quota; /* what its files are charged to */

        /* How it ended. */
        enum result_code code; /* not RESULT_OK: it never ran, or its end is unknown */
        int exit_code;         /* when RESULT_OK */
        char *error;           /* one line, or NULL: nothing to say */

        struct hidden hidden;
};

/* Where a job keeps its bytes, and how many of them. */
struct job_store {
        int dir; /* borrowed */
        uint64_t output_max;
        struct quota_account *quota; /* the job has a reference of its own; NULL counts nothing */
};

/* A draft. 0 or -ENOMEM. */
int job_new(struct job **out, const struct job_store *store);

/* A draft gets its number and, unless @name is NULL, its name. 0 or -ENOMEM. */
int job_set_number(struct job *j, uint64_t lease_serial, uint32_t number, const char *name);

/* Of a draft: from now on its input is live, and begins with what there is. As live_input_new(). */
int job_open_input(struct job *j, uint64_t lease_serial);

/* It could not be written down: takes that back. Its input is empty then. */
void job_forget_input(struct job *j);

/*
 * A draft with a number is queued, and takes the bytes of @command. It keeps them and those of its input for a later run;
 * when that cannot be done, it is queued all the same, but has no bytes: 0 or -errno.
 */
int job_submit(struct job *j, uint64_t lease_serial, struct blob *command);

/* One of an earlier run, as the journal has it. Where its files cannot be read it has ended. */
int job_restore(struct job **out, const struct journal_job *row, const struct job_store *store);

/* How it stands, for the journal; borrowed from the job. */
struct journal_job job_row(const struct job *j, uint64_t lease_serial);

/* Leave its files for a later run. */
void job_keep(struct job *j);

struct job *job_ref(struct job *j);
void job_unref(struct job *j);

/* The same for who reads its output, which stays open meanwhile. */
struct job *job_reader_ref(struct job *j);
void job_reader_unref(struct job *j);

/* The one setter of states; tells the watches. An illegal one is not set: see pool/util/transition.h. */
void job_set_state(struct job *j, enum job_state state);

/* Set its fate, unless the one that it has is a later one. Whether that changed it. */
bool job_set_fate(struct job *j, enum job_fate fate);

/* It ends with an exit code (@r is ok) or without one. What @r says is to be remarked before. */
void job_set_end(struct job *j, const struct result *r, int exit_code, int64_t now);

/* That has been written down: tell those who wait. */
void job_end(struct job *j);

/* Remember a remark for `error`; the first one stays … */
void job_remark(struct job *j, const char *text);

/* … but for how it ended, which is added. */
void job_add_remark(struct job *j, const char *text);

/* Of one that ended. */
enum job_end job_how_ended(const struct job *j);
const char *job_end_name(enum job_end end);

/* As the directory is called in jobs/. */
#define JOB_NAME_SIZE (JOB_NAME_MAX + 1)
const char *job_name(const struct job *j, char out[static JOB_NAME_SIZE]);

static inline bool job_ended(const struct job *j) {
        return j->state == JOB_ENDED;
}

/* NULL stands for a job that was never made. */
static inline bool job_is_submitted(const struct job *j) {
        return j && j->state != JOB_DRAFT;
}

/* It is with the backend. */
static inline bool job_is_running(const struct job *j) {
        return j->state == JOB_STARTING || j->state == JOB_RUNNING;
}

const char *job_state_name(enum job_state state);
