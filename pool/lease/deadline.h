/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The deadlines of jobs: one for each job that starts, runs or dies.
 *
 * A job is in the list from its start to its end; job_end() takes it out. The list holds no reference. What is due is
 * reported to the caller of deadlines_tick(), who decides what to do about it. Times are those of the pool's clock.
 */

#include <stdint.h>

#include "pool/lease/job.h"

struct deadlines {
        struct list jobs;
        int64_t next_us; /* when to call deadlines_tick(): not later than the earliest of them; or USEC_NEVER */
};

void deadlines_init(struct deadlines *d);

/* Put a job into the list; set its deadline again. @due_us may be USEC_NEVER. */
void deadline_add(struct deadlines *d, struct job *j, int64_t due_us);
void deadline_set(struct deadlines *d, struct job *j, int64_t due_us);

/* Call @due once for each job whose deadline has come. It sets a later one, or ends the job, and may add others. */
void deadlines_tick(struct deadlines *d, int64_t now, void (*due)(struct job *j));
