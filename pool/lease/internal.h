/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the parts of a lease, and by nobody else:
 *
 *   leases.c      the table of all leases
 *   lease.c       a lease's life, and what readers ask of it
 *   lease-jobs.c  its jobs, from submission to end
 *   lease-info.c  who holds what, for those who watch
 *   lease-ctl.c   the words of ctl, and the settings
 *   lease-restore.c  after a restart: leases and jobs of an earlier run
 */

#include <uthash.h>

#include "pool/lease/lease.h"

struct leases {
        struct pool *pool;
        const struct config *config;
        struct event_ring *events;
        struct journal *journal; /* or NULL */
        int spool_dir;
        int64_t (*clock)(void);
        uint64_t instance;       /* random: of the exec ids of leases made in this run */
        uint64_t last_serial;
        bool draining;
        int64_t changed_wall_us; /* when a lease came or went, wall time */
        struct list list;        /* all, in order of making */
        struct lease *by_name;   /* hashes over the same */
        struct lease *by_serial;
        struct list running;     /* jobs with a deadline to watch */
        int64_t next_deadline_us; /* not later than the earliest of them */
        struct list starved;      /* leases whose job could not be started for a shortage on this machine, … */
        int64_t starved_us;       /* … until when they are not tried again … */
        int64_t starved_warn_us;  /* … when the log is told of it again … */
        struct result shortage;   /* … and why: for `error` */
        struct list unused;       /* leases that hold an environment and have no job, by warn_us */
        struct leases_totals totals;
};

struct lease {
        struct leases *table; /* NULL once released */
        struct list link;
        UT_hash_handle hh_name, hh_serial;
        unsigned refs;
        char *name;
        uint64_t serial;
        uint64_t instance; /* of the run that made it */
        uid_t uid;
        gid_t gid;
        int64_t created_us, created_wall_us;
        int64_t changed_wall_us, state_wall_us; /* wall time: of what status and error show; of the state */
        enum lease_state state;
        struct claim claim;
        enum result_code code; /* why it is lost or failed */
        char *error;           /* and the sentence */
        char *remark;          /* about the newest bad word in ctl or a setting */
        struct list watches;

        char *workdir; /* BASE/hermes_tasks/NAME */
        char *cwd;
        char *env;
        int64_t timeout_us;
        struct blob input;
        int64_t set_wall_us[SETTING_N], input_wall_us; /* wall time of the last change of each */

        struct list jobs; /* oldest first; a reference each */
        struct job *current;
        unsigned n_queued, n_ended;
        unsigned n_drafts; /* commands that are being written, which will need a number */
        uint32_t last_number;
        struct list starved; /* in the table's list */
        struct list unused; /* in the table's list, exactly while it has an environment and no job */
        int64_t unused_since_us;
        int64_t warn_us; /* when to tell the log of that */
        bool prepared; /* a job began there: the workdir was made and emptied, */
        bool prepared_unwritten; /* … which is to be written down before the next one begins */
        struct hidden hidden;
        uint64_t round; /* how often all names came back */
};

/* A lease that is in no table yet; NULL when out of memory. */
struct lease *lease_new(struct leases *t, const char *name, uint64_t serial, uid_t uid, gid_t gid);

/* Put it into the table, which has the reference from then on. */
void lease_add(struct lease *l);

/* Write down how it stands. 0 or -errno. */
int lease_write(const struct lease *l);

/* The one setter of states; @why is kept for `error`. */
void lease_set_state(struct lease *l, enum lease_state state, const struct result *why);

/* Note that something changed which status or error show. */
void lease_touch(struct lease *l);

/* Keep a copy of @text, or NULL when it is empty, in place of the string at @at. */
void lease_replace(char **at, const char *text);

/* lease-jobs.c: from now on the workdir holds what its jobs left; */
void lease_set_prepared(struct lease *l);

/* jobs run in order, so those before the newest that an earlier run began have ended: end them, */
void lease_end_unwritten(struct lease *l);

/* go on with the job that an earlier run started, or else */
void lease_resume(struct lease *l);

/* start the next job when the lease has an environment, and none runs; */
void lease_start_next(struct lease *l);

/* end what is queued, and with @running also what runs, without a result; */
void lease_end_jobs(struct lease *l, bool running, const struct result *why);

/* kill the job that runs; the first @why stays. */
void lease_kill(struct lease *l, struct job *j, const char *why);

/* lease-info.c: note whether it holds its environment without a job; after each change of state and of jobs. */
void lease_note_use(struct lease *l);

/* Warn of leases that do so for too long. The time of the next warning, or USEC_NEVER. */
void leases_warn(struct leases *t, int64_t now);
int64_t leases_warn_due(const struct leases *t);
