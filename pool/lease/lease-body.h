/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The bodies of a lease and of a table of leases, for the files of this folder and for nobody else. Each calls those
 * below it:
 *
 *   restore.c   after a restart: leases and jobs of an earlier run
 *   table.c     the table of a pool's leases: create and release, the pool's events, what is due
 *   ctl.c       the words of ctl
 *   named.c     jobs with a name are made and removed
 *   files.c     calls about the files of the environment
 *   submit.c    a command becomes a job
 *   connection.c  connections to ports, and watches
 *   run.c       jobs start, run and time out
 *   shortage.c  jobs that this machine cannot start now
 *   end.c       jobs end                                     fate.c      jobs are killed
 *   set.c       settings are read and set                    unused.c    leases without jobs
 *   input.c     live input: from stdin to the sandbox
 *   audit.c     the audit file                               job-result.c   how a job ended, as JSON
 *   lease.c     one lease: its state, and what readers ask of it
 *   registry.c  what the tables of all pools share
 *   deadline.c  the deadlines of jobs
 *   job.c       one job
 *   settings.c  cwd, timeout, env, standard input: of a lease, of a job
 *   spool.c     its output                                   live-input.c   what of its live input is on the way
 *
 * What a lower part has to say to a higher one it returns, or tells by an event.
 */

#include <uthash.h>

#include "pool/lease/deadline.h"
#include "pool/lease/lease.h"
#include "pool/lease/table.h"

struct leases {
        struct lease_registry *registry;
        struct pool *pool;
        uint64_t pool_serial;
        const char *pool_name; /* "": the mount's own */
        const struct config *config;
        char *workdir; /* of its leases, who find it as it is; NULL: as the options say */
        struct event_ring *events;
        struct journal *journal; /* or NULL */
        int spool_dir;
        int64_t (*clock)(void);
        bool draining;
        int64_t changed_wall_us; /* when a lease came or went, wall time */
        struct list list;        /* all, in order of making */
        struct lease *by_name;   /* a hash over the same */
        struct deadlines deadlines; /* of jobs that start, run or die */
        struct list starved;      /* leases whose job could not be started for a shortage on this machine, … */
        int64_t starved_us;       /* … until when they are not tried again … */
        int64_t starved_warn_us;  /* … when the log is told of it again … */
        struct result shortage;   /* … and why: for `error` */
        struct result wait_reason; /* what lease_error() said of a lease that waits */
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
        struct quota_account *quota; /* of @uid */
        int64_t created_us, created_wall_us;
        int64_t changed_wall_us, state_wall_us; /* wall time: of what status and error show; of the state */
        enum lease_state state;
        struct claim claim;
        enum result_code code; /* why it is lost or failed */
        char *error;           /* and the sentence */
        char *remark;          /* about the newest bad word in ctl or a setting */
        struct list watches, file_watches;

        char *workdir; /* BASE/hermes_tasks/NAME, or what option workdir says, or its table */
        struct settings settings;

        /* Its jobs, oldest first. A job is in one of these, by its link, with a reference … */
        struct list jobs;      /* of cmd, once they are submitted */
        struct list named;     /* those with a name */
        struct list forgotten; /* those whose name was removed and that still run */
        struct job *by_job_name; /* a hash over `named` */
        /* … and by its turn in one of these, while it is queued, or starting or running. */
        struct list queue; /* in the order of their submission */
        struct list running;
        struct job *current; /* the one of cmd that runs; there is one at most */
        unsigned n_queued, n_running;
        unsigned n_named, n_named_drafts;
        unsigned n_drafts;      /* commands that are being written to cmd, which will need a number */
        unsigned n_ended;       /* in `jobs` */
        uint32_t n_over;        /* that ended since the lease was made, in this run or an earlier one */
        uint32_t last_number, last_named;
        struct list starved; /* in the table's list */
        struct list unused; /* in the table's list, exactly while it has an environment and no job */
        int64_t unused_since_us;
        int64_t warn_us; /* when to tell the log of that */
        bool prepared; /* a job began there: the workdir was made and emptied, */
        bool prepared_unwritten; /* … which is to be written down before the next one begins */
        struct file_call prepare; /* under way while a call about files makes the workdir */
        int prepare_error;        /* of the last one, until somebody is told; 0 or -errno */
        unsigned n_holds;         /* while there are any, no job starts */
        unsigned n_connections;   /* and watches */
        struct hidden hidden;
        uint64_t round; /* how often all names came back */
};

/* The functions of lease.c that keep them whole. */

/* A lease that is in no table yet, and whose claim is not initialized; NULL when out of memory. */
struct lease *lease_new(struct leases *t, const char *name, uint64_t serial, uid_t uid, gid_t gid);

/* Write down how it stands. 0 or -errno. */
int lease_write(const struct lease *l);

/* The one setter of states; @why is kept for `error`. An illegal one is not set: see pool/util/transition.h. */
void lease_set_state(struct lease *l, enum lease_state state, const struct result *why);

/* Write down and announce the state that it has: after a change, and when it was restored. */
void lease_publish_state(struct lease *l);

/* Tell the log, the events and the watches how it stands. */
void lease_announce(struct lease *l);

/* Tell the log and the events that a job is now in @state. */
void lease_announce_job(struct lease *l, struct job *j, const char *state);

/* Write down how a job stands; or put its whole row, when what was to be run changed, or its name. 0 or -errno. */
int lease_write_job(const struct lease *l, const struct job *j);
int lease_add_job_row(const struct lease *l, const struct job *j);

/* Put a job of an earlier run, or one that was just submitted, among those that wait, or those that run. */
void lease_enqueue(struct lease *l, struct job *j);
void lease_add_running(struct lease *l, struct job *j);

/* Whether it is this job's turn to start, if no other waits before it. */
bool lease_has_turn(const struct lease *l, const struct job *j);

/* Note that something changed which status or error show. */
void lease_touch(struct lease *l);

/* Keep a copy of @text, or NULL when it is empty, in place of the string at @at. */
void lease_replace(char **at, const char *text);

/* What `error` says of the newest bad word in ctl or a setting; NULL: nothing. */
void lease_set_remark(struct lease *l, const char *text);

#define QUOTA_TEXT_SIZE 128

/* Which quota it is that leaves no more room to the lease's owner, for `error`. */
const char *lease_say_quota(const struct lease *l, char out[static QUOTA_TEXT_SIZE]);

/* Whether its environment, when it has one, runs more than one job at a time; and that it does not. */
bool lease_runs_side_by_side(const struct lease *l);
#define RUNS_ONE_JOB "jobs with names run side by side, and environment %s runs one job at a time: it has no helper"

/* Whether its environment, when it has one, has a helper; and that it has none. */
bool lease_has_helper(const struct lease *l);

/* Why all jobs in its environment run as one user; NULL: they need not, or it has no environment yet. */
const char *lease_one_user(const struct lease *l);
#define NEEDS_HELPER "%s needs a helper, and environment %s has none"

/* Whether its workdir is emptied before its first job. */
bool lease_empties_workdir(const struct lease *l);

/* Whether a call about files makes the workdir: no job starts then. */
bool lease_is_preparing(const struct lease *l);

/* From now on the workdir holds what its jobs left. */
void lease_set_prepared(struct lease *l);
