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

/* Jobs of cmd run in order, so those before the newest that an earlier run began have ended: end them. */
void lease_end_unwritten(struct lease *l);

/* How a job will stand in the journal when it has ended like that. Borrowed from the job and from @r. */
struct journal_job lease_ended_row(const struct lease *l, const struct job *j, const struct result *r, int code);
