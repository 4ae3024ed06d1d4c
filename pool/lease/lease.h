/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A lease: one directory of the mount, one environment, and jobs one after another.
 *
 *   waiting → leased → lost
 *   waiting → failed           renew: lost or failed → waiting
 *   waiting → lost             after a restart, when its environment is gone
 *   and from each of them → released, which is the end
 *
 * A lease stands in its table until it is released; then only readers of its
 * jobs hold on to it, by references. Inputs come from fs/ (calls) and from the
 * pool and the backend (events); none of them blocks.
 *
 * -errno is what the user gets; `error` has the sentence (lease_error).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/lease/job.h"
#include "pool/environment/pool.h"

struct lease;
struct leases;

enum lease_state {
        LEASE_WAITING,
        LEASE_LEASED,
        LEASE_LOST,
        LEASE_FAILED,
        LEASE_RELEASED,
        LEASE_N_STATES,
};

/* How jobs end, for counting. */
enum job_end {
        JOB_END_OK,        /* exit code 0 */
        JOB_END_FAILED,    /* another exit code of its own */
        JOB_END_TIMEOUT,   /* killed after its timeout */
        JOB_END_KILLED,    /* killed through ctl, by the release of its lease, or for its output */
        JOB_END_CANCELLED, /* while it was queued: it never ran */
        JOB_END_UNKNOWN,   /* it could not be started, its environment was lost, or its output could not be stored */
        JOB_N_ENDS,
};

/* Counts since the start. */
struct leases_totals {
        uint64_t submitted, ended[JOB_N_ENDS];
        uint64_t output_bytes;
};

/* A lease as those see it who watch. */
struct lease_info {
        const char *name;
        enum lease_state state;
        uid_t uid;
        const char *environment; /* or NULL */
        int64_t created_us;
        int64_t wait_us;           /* how long it has waited for its environment, or had to */
        const struct job *current; /* or NULL */
        unsigned queued;
        uint32_t ended;
        int64_t unused_since_us;   /* it has held its environment without a job since then; USEC_NEVER: it does not */
};

enum lease_setting {
        SETTING_CWD,
        SETTING_TIMEOUT,
        SETTING_ENV,
        SETTING_N,
};

/*
 * The table of all leases. @pool, @config, @events and @journal (which may be
 * NULL) are borrowed and outlive it; @spool_dir is a descriptor of a directory
 * where nothing is but what leases put there; @clock as for the pool.
 */
int leases_new(struct leases **out, struct pool *pool, const struct config *config, struct event_ring *events,
               struct journal *journal, int spool_dir, int64_t (*clock)(void));

/*
 * After a restart, behind pool_restore(): the leases and jobs in the journal. Files of jobs that are not in it are
 * removed. 0 or -errno.
 */
int leases_restore(struct leases *t);
void leases_free(struct leases *t);

unsigned leases_count(const struct leases *t);

/* Wall time when a lease last came or went; 0: none did. */
int64_t leases_changed_wall_us(const struct leases *t);

struct lease *leases_find(struct leases *t, const char *name);
struct lease *leases_find_serial(struct leases *t, uint64_t serial);

/* The first lease with a serial above @serial, in order of their making; NULL at the end. */
struct lease *leases_after(struct leases *t, uint64_t serial);

/* Call @each for every lease, in order of their making, with how it stands at @now. */
void leases_each(const struct leases *t, int64_t now, void (*each)(void *data, const struct lease_info *info),
                 void *data);

const struct leases_totals *leases_totals(const struct leases *t);

/* Bytes of commands, input and output that are kept on disk. */
uint64_t leases_spool_bytes(const struct leases *t);
const char *job_end_name(enum job_end end);

/*
 * Do what is due: job timeouts, jobs that wait for a descriptor, warnings. When the next thing is due, or USEC_NEVER;
 * to be asked after pool_tick(), for what that grants begins jobs.
 */
void leases_tick(struct leases *t);
int64_t leases_due(const struct leases *t);

/* No new leases, until undone. */
void leases_drain(struct leases *t, bool drain);

/* Write all leases and jobs to the journal again, after some writes failed. 0 or -errno. */
int leases_rewrite(struct leases *t);

/*
 * Release every lease, for good; or, with @keep, only in memory: the journal and the files stay for the next run. Call
 * it after pool_stop(), or with @keep after pool_leave().
 */
void leases_stop(struct leases *t, bool keep);

/*
 * Make a lease and ask the pool for an environment. The table holds it; *out is
 * borrowed. -EEXIST, -EINVAL or -ENAMETOOLONG for the name, -EAGAIN when the pool
 * drains or is full, -ENOMEM, -ENOSPC or what else the disk says of the journal.
 */
int lease_create(struct leases *t, const char *name, uid_t uid, gid_t gid, struct lease **out);

/* Take it out of the table, end its jobs, give its environment back. */
void lease_release(struct lease *l);

struct lease *lease_ref(struct lease *l);
void lease_unref(struct lease *l);

/*
 * Whether a command may be opened now: RESULT_BUSY when the queue is full, or the
 * drafts that there are need the last of JOB_NUMBER_MAX numbers; the lease's code
 * when it has no environment to hope for. A command that was opened in time is
 * taken even when the queue filled up since.
 */
enum result_code lease_accepts(const struct lease *l);

/*
 * All that the submission of a command cannot do without: memory, and the promise
 * of a number. *out is a reference. Either lease_submit() takes it, or it is
 * discarded, reference and all. -ESTALE after release, -ENOMEM.
 */
int lease_draft(struct lease *l, struct job **out);
void lease_discard(struct lease *l, struct job *draft);

/*
 * Make the newest job of @draft: run @command after all that were submitted
 * before, with the settings and the input that were set until now. The bytes of
 * @command are taken; the caller's reference stays his. On a lost or failed lease,
 * and when the job cannot be stored or written down, it ends at once with the
 * reason, without having run. 0, or -ESTALE after release: then it still is a draft.
 */
int lease_submit(struct lease *l, struct job *draft, struct blob *command);

/* The words of ctl. -EINVAL for one that makes no sense now; lease_error says which. */
int lease_command(struct lease *l, const char *line);

/* Check or store a setting, the text as the user wrote it. -EINVAL with lease_error, -ENOMEM. */
int lease_check_setting(struct lease *l, enum lease_setting setting, const char *text);
int lease_set(struct lease *l, enum lease_setting setting, const char *text);

/* Note for `error` that something written to the lease was refused; until the next thing that is not. */
void lease_remark(struct lease *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Note that @file of the lease takes no more bytes: -EDQUOT. Not after release. */
void lease_remark_quota(struct lease *l, const char *file);

/* The text of a setting, with its newline, into @out. */
int lease_get(const struct lease *l, enum lease_setting setting, struct buf *out);

/* Standard input for the next job: what there is of it, add bytes (as blob_append(), with lease_error), start over. -ESTALE. */
const struct blob *lease_input(const struct lease *l);
int lease_add_input(struct lease *l, const void *data, size_t len);
void lease_clear_input(struct lease *l);

const char *lease_name(const struct lease *l);
uint64_t lease_serial(const struct lease *l);
uid_t lease_uid(const struct lease *l);
gid_t lease_gid(const struct lease *l);

/* What the files of its owner are charged to; borrowed. */
struct quota_account *lease_quota(const struct lease *l);
enum lease_state lease_state(const struct lease *l);
const char *lease_state_name(enum lease_state state);

/*
 * Wall time: of its making, of its state, of the last change of what status and error show, of the input, of a setting.
 */
int64_t lease_created_wall_us(const struct lease *l);
int64_t lease_state_wall_us(const struct lease *l);
int64_t lease_changed_wall_us(const struct lease *l);
int64_t lease_input_wall_us(const struct lease *l);
int64_t lease_set_wall_us(const struct lease *l, enum lease_setting setting);

/* Why the lease is lost or failed; RESULT_RELEASED after release; else RESULT_OK. */
enum result_code lease_code(const struct lease *l);

/* The sentence for `error`; NULL when all is well. Good until the next call. */
const char *lease_error(const struct lease *l);

/* The environment's id; NULL while there is none. */
const char *lease_environment(const struct lease *l);

/* Told when the lease changes state. */
struct list *lease_watches(struct lease *l);

/* Jobs: the newest, one by number, the first with a number above @number; borrowed, or NULL. */
struct job *lease_newest(const struct lease *l);
struct job *lease_job(const struct lease *l, uint32_t number);
struct job *lease_job_after(const struct lease *l, uint32_t number);

/*
 * Names that unlink took away, in memory only. @file is below 64, what fs/ calls one of its files: of the job @j, or of
 * the lease itself where that is NULL. lease_show() brings all names of the lease back, and so does a submission.
 */
void lease_hide(struct lease *l, struct job *j, unsigned file);
bool lease_hides(const struct lease *l, const struct job *j, unsigned file);
void lease_show(struct lease *l);

/*
 * rmdir was accepted of the directory of the job @j, or of that of all jobs where it is NULL, and it is still there:
 * with another generation, since the kernel finds nothing in the old one any more.
 */
void lease_renew_directory(struct lease *l, struct job *j);
unsigned lease_directory_generation(const struct lease *l, const struct job *j);

/* For people: the running job, and how many wait. */
struct job *lease_current(const struct lease *l);
unsigned lease_queued(const struct lease *l);
