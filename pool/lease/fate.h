/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the daemon decides about how a job ends: that it is killed, by a user, for its time or for its output, and what
 * its exit code then means. The decision is the job's fate (job.h).
 */

#include "pool/lease/lease.h"

/* Kill the job that runs; the first @why stays. When even that does not end it, leases_tick_jobs() gives it up. */
void lease_kill_job(struct lease *l, struct job *j, enum job_fate fate, const char *why);

/* Kill it as its fate says, which was decided before: TERM first where its time is over. */
void lease_send_kill(struct lease *l, struct job *j);

/* Bytes of its output. They are kept, or the job is killed. */
void lease_take_output(struct lease *l, struct job *j, enum stream stream, const void *data, size_t len);

/*
 * How it ended, for those who read output and exit code and take the one for the whole of the other: where bytes were
 * dropped the code is not its own, even if it ended by itself before it was killed. @cut has room for the answer.
 */
const struct result *lease_judge_end(const struct lease *l, struct job *j, const struct result *r, int *code,
                                     struct result *cut);

/* The exit code of one that was killed. */
int job_killed_code(const struct job *j);
