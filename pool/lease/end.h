/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How jobs end: what is written down, told and counted, and which of those that have ended are kept.
 *
 * Called by what runs jobs, and by what releases or loses their lease. It starts no other job.
 */

#include "pool/lease/lease.h"

/*
 * End a job with an exit code (@r is ok) or without one. The oldest that have ended leave the lease, so it may be gone
 * afterwards.
 */
void lease_end_job(struct lease *l, struct job *j, const struct result *r, int code);

/* End without a result what is queued; and also what runs. Drafts stay. */
void lease_end_queued(struct lease *l, const struct result *why);
void lease_end_jobs(struct lease *l, const struct result *why);

/* The journal need not have a row of the job any more. */
void lease_drop_row(const struct lease *l, const struct job *j);

/* For restore.c: an earlier run has written down their end, or they cannot be followed, and nobody can ask for them. */
void lease_drop_forgotten(struct lease *l);

/* Jobs of cmd run in order, so those before the newest that an earlier run began have ended: end them. */
void lease_end_unwritten(struct lease *l);

/* How a job will stand in the journal when it has ended like that. Borrowed from the job and from @r. */
struct journal_job lease_ended_row(const struct lease *l, const struct job *j, const struct result *r, int code);
