/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The files of a lease's environment, for whom the lease is.
 *
 * The first call makes the workdir and empties it, as the first job does otherwise; no job starts meanwhile. A call that
 * is made while the first job starts would be undone by it, so it has to wait.
 *
 *   workdir   none → PREPARING → prepared      by a call
 *             none → a job starts → prepared   by a job
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/file-call.h"
#include "pool/lease/lease.h"

/*
 * See sandbox_file_call(). -EAGAIN: not yet; lease_file_watches() says when to try again. -ENODEV: the lease is lost or
 * failed. -ESTALE: it is released.
 */
int lease_file_call(struct lease *l, const struct file_call_args *args, struct file_call *c);

/* Makes the workdir as a call does. 0: it is there. -EAGAIN as above. -EOPNOTSUPP, or for what it cannot be made. */
int lease_prepare(struct lease *l);

/*
 * Told when the lease changes state, when its workdir is prepared, and when a job has ended, before who waits for that
 * job is.
 */
struct list *lease_file_watches(struct lease *l);

/* How many jobs have ended: what is known of files from before the last one may not be true any more. */
uint32_t lease_jobs_ended(const struct lease *l);

/* What was written waits to be accepted by the environment, so no job starts. The calls nest. */
void lease_hold_jobs(struct lease *l);
void lease_let_jobs(struct lease *l);

/* The lease's own directory in its environment: an absolute path. */
const char *lease_workdir(const struct lease *l);

/* For table.c: the lease has no environment any more. */
void lease_end_files(struct lease *l);
