/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The simulation's own records: what the core was asked, what the provider did,
 * and so what has to be true. They are kept from outside, by watches, hooks
 * and calls, and share nothing with the core's.
 */

#include "sim-backend.h"
#include "pool/core.h"
#include "pool/lease/limits.h"
#include "pool/lease/set.h"
#include "pool/lease/table.h"
#include "pool/util/clock.h"
#include "pool/util/watch.h"

struct model_lease {
        struct list link; /* in leases, in order of making, or in gone */
        struct lease *lease;
        struct watch watch;
        char name[NAME_LEN_MAX + 1];
        uint64_t serial;
        uid_t uid;
        enum lease_state seen;
        enum result_code code; /* at the end of a core */
        bool in_line;         /* it waits for an environment, any one */
        uint64_t claim_order; /* since when: in order of arrival, */
        int64_t since_us;     /* by the clock, */
        uint64_t turn;        /* and in which turn it is served */
        unsigned sandbox;     /* number of the one it holds; 0: none */
        bool rough;           /* the journal was behind when it was taken up */
        int64_t starved_us;   /* when its newest job was refused for a shortage that passes; 0: it was not */
        bool restoring;       /* an earlier core gave it that one, which did not say yet whether it lives */
        bool condemned;       /* its environment was given up because of a job that would not end */
        struct list jobs;     /* of model jobs that are not dropped, oldest first */
        uint32_t last_number;
        char workdir[300], cwd[32], env[32], input[32];
        int64_t timeout_us;
        struct timer drop; /* after release: when the last reader goes */
};

struct model_job {
        struct list link;
        struct model_lease *lease; /* stays until its jobs are dropped */
        struct job *job;           /* a reference; NULL inside lease_submit() */
        struct watch watch;
        uint32_t number;
        enum job_state seen;
        char command[48], cwd[32], env[32], input[32]; /* as they were at submission */
        size_t padding; /* spaces at the command's end */
        int64_t timeout_us;
        uint64_t wrote[2];
        bool overflowed;       /* not all that it wrote was kept, */
        bool cut;              /* for the quota */
        uint64_t room;         /* what that left when it was given bytes last, */
        size_t given;          /* so many */
        struct sim_exec *exec; /* while one is there */
        bool kill_wanted;      /* by the user, or for its output */
        bool left;             /* an earlier core gave it to the provider, this one did not go on with it yet */
        int64_t given_us;      /* to the provider; 0: not yet */
        int64_t killed_us;     /* 0: not yet */
        int64_t polled_us;     /* when the core asked whether it runs; known once it listens no more */
        bool exec_started;     /* the newest exec of it had, when it was let go of */
        bool fate_known;       /* it has to end, this way: */
        enum result_code code;
        int exit_code;
        char error[RESULT_TEXT_MAX]; /* at the end of a core */
        struct timer drop; /* once ended: when its reader goes */
};

struct model {
        struct config config;
        struct core *core;
        struct pool *pool; /* the core's, as is this: */
        struct leases *table;
        struct journal *journal;
        struct sim_backend backend;
        int spool_dir;

        struct list leases; /* in the table */
        struct list gone;   /* released, still read */
        unsigned n_leases;
        uint64_t next_claim;
        uint64_t turn; /* of a user who has no lease in line, and now makes one */
        bool draining, stopping;
        unsigned prewarm;          /* as asked for, until it is done */
        uint64_t max_lowered_turn; /* the turn in which max was lowered last */

        /* Since the newest create that succeeded, or the pool was told to try again: */
        int64_t paced_us; /* create_rate allows the next create then */
        int64_t failed_us, backoff_us; /* when one failed last or was not even sent, and the whole delay after it */
        bool no_room;                  /* the newest failed for that */
        unsigned n_refused;            /* that were refused for good */
        bool broken;                   /* so there are no more, */
        int64_t trial_us;              /* but for one from then on */

        /* The journal's disk */
        bool disk_full;
        unsigned write_fails;  /* in a thousand, else */
        uint64_t n_full, n_writes_failed, n_submits_failed;
        int64_t write_failed_us; /* when the newest did */
        bool behind;           /* rows may be wrong, until all are put again */

        struct pool_totals earlier; /* of the cores before this one */
        uint64_t n_crashes, n_rough, n_stops;
        bool ticking;       /* inside core_tick() */
        unsigned n_probing;
        uint64_t n_probed_out, n_breaks;
        uint64_t n_granted, n_condemned, n_oversubscribed, n_jobs_ended, n_lost, n_failed, n_timeouts, n_cut;
};

extern struct model model;

void model_start(const struct config *config, const struct sim_rates *rates, int spool_dir);

/* Everything has to be gone by now. */
void model_end(void);

struct model_lease *model_find(const char *name);

/* Who makes a lease of this name: in every other run there are several users. */
uid_t model_user(const char *name);

#define READ_TIME_US (30 * USEC_PER_SEC) /* how long somebody may go on reading what has ended */

/* From now on these jobs have to end, in this way, before the next tick is over. */
void model_job_must_end(struct model_job *j, enum result_code code, int exit_code);
void model_jobs_must_end(struct model_lease *m, enum result_code code, bool queued_only);

/* Take note of a job's and a lease's changes. */
void model_look_at_job(struct model_job *j);
void model_on_job_changed(struct watch *w);
void model_on_lease_changed(struct watch *w);

/* The reader goes. */
void model_drop_job(struct model_job *j);

/* The calls of a user, checked against what they should answer. */
void model_create(const char *name);
void model_release(struct model_lease *m);
void model_submit(struct model_lease *m);
void model_command(struct model_lease *m, const char *line);
void model_set(struct model_lease *m, enum lease_setting setting, const char *text);
void model_write_input(struct model_lease *m, const char *text);
void model_read(struct model_job *j);
void model_read_all(struct model_job *j);
void model_set_max(unsigned max);
void model_prewarm(unsigned n);
void model_recycle(void);
void model_resume(void);

/* The line of leases that wait. Where two of them could be served, the one before is. */
void line_reset(void);
void line_join(struct model_lease *m);
void line_leave(struct model_lease *m, bool served);

/* By max_per_user, with the leases of its user that have an environment or are before it in line. */
bool line_holds_back(const struct model_lease *m);

/* Leases that wait since then or longer and are not held back. */
unsigned line_count(int64_t since_us);
bool line_is_before(const struct model_lease *a, const struct model_lease *b);

/* Whether a user may be lent this one, and may get one that is there. */
bool model_may_have(const struct model_lease *m, const struct sim_sandbox *s);
bool model_one_may_come_free(const struct model_lease *m);

/* It is nobody's, and could be lent. */
bool model_is_idle(const struct sim_sandbox *s);

/* From then on the core is allowed to send a create, in any case. */
int64_t model_creates_by(void);

/* core_stop(): the model expects the end of every lease. */
void model_stop(void);

/*
 * The daemon is killed, at once, or stops and keeps everything; and a new one takes up what it left. Where the journal
 * is behind that may be anything, and the model goes on from what it is; but what is never to happen does not happen.
 */
void model_restart(bool planned);
void model_open_core(void);

/* It has ended, and is read for a while. */
void model_read_on(struct model_job *j);

/* What is to be forgotten with a core: that creates failed. */
void model_forget_failures(void);

/* A write of the journal fails: so a create is not sent, or a job that was submitted is not run. */
void model_on_failed_write(bool create, bool submit);
void sim_system_reset(void);

/* The journal has exactly the rows that the records have. */
void check_rows(void);

/* Whether the journal has this lease; whether, by the journal, another lease than @m has @s. */
bool rows_have(const struct model_lease *m);
bool rows_give_away(const struct sim_sandbox *s, const struct model_lease *m);

/* A number that changes when they do. */
uint64_t rows_digest(void);

/* The invariants: after each tick, @next_us is what it returned. */
void check_all(int64_t next_us);

/* What is kept on disk: before the core is given bytes of output, whether it dropped some of them for the quota, … */
void quota_giving(struct sim_exec *x, size_t len);
bool quota_cut(struct model_job *j);
/* … and whether what it counts is what the files have, and not too much. */
void check_quota(void);

/* Random users, from now on, until stopped. */
void users_start(int64_t gap_us);
void users_stop(void);
