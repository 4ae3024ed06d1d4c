/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A lease: one directory of the mount, one environment, and its jobs: those of cmd one after another, those with names
 * beside them.
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

struct lease;

enum lease_state {
        LEASE_WAITING,
        LEASE_LEASED,
        LEASE_LOST,
        LEASE_FAILED,
        LEASE_RELEASED,
        LEASE_N_STATES,
};

struct lease *lease_ref(struct lease *l);
void lease_unref(struct lease *l);

/* Note for `error` that something written to the lease was refused; until the next thing that is not. */
void lease_remark(struct lease *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Note that @file of the lease takes no more bytes: -EDQUOT. Not after release. */
void lease_remark_quota(struct lease *l, const char *file);

const char *lease_name(const struct lease *l);
uint64_t lease_serial(const struct lease *l);
uid_t lease_uid(const struct lease *l);
gid_t lease_gid(const struct lease *l);

/* What the files of its owner are charged to; borrowed. */
struct quota_account *lease_quota(const struct lease *l);
enum lease_state lease_state(const struct lease *l);
const char *lease_state_name(enum lease_state state);

/* Wall time: of its making, of its state, of the last change of what status and error show. */
int64_t lease_created_wall_us(const struct lease *l);
int64_t lease_state_wall_us(const struct lease *l);
int64_t lease_changed_wall_us(const struct lease *l);

/* Why the lease is lost or failed; RESULT_RELEASED after release; else RESULT_OK. */
enum result_code lease_code(const struct lease *l);

/* The sentence for `error`; NULL when all is well. Good until the next call. */
const char *lease_error(const struct lease *l);

/* The environment's id; NULL while there is none. */
const char *lease_environment(const struct lease *l);

/* Told when the lease changes state. */
struct list *lease_watches(struct lease *l);

/*
 * Jobs: the newest of cmd, one by number, the first with a number above @number, one by name; borrowed, or NULL. Those
 * with a name have numbers behind all others.
 */
struct job *lease_newest(const struct lease *l);
struct job *lease_job(const struct lease *l, uint32_t number);
struct job *lease_job_after(const struct lease *l, uint32_t number);
struct job *lease_named_job(const struct lease *l, const char *name);

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

/* For people: the running job of cmd, how many jobs run, and how many wait. */
struct job *lease_current(const struct lease *l);
unsigned lease_running(const struct lease *l);
unsigned lease_queued(const struct lease *l);

/* Call @each for every job that starts or runs, the oldest first. */
void lease_each_running(const struct lease *l, void (*each)(void *data, const struct job *j), void *data);
