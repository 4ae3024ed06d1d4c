/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A lease's jobs in its environment. What the backend has to say of an exec comes here as an event.
 */

#include "pool/lease/lease.h"

struct leases;

/* Start queued jobs, as far as it is their turn. */
void lease_start_next(struct lease *l);

/* Go on with the jobs that an earlier run started, and start others as above. */
void lease_resume(struct lease *l);

/* Send a signal other than KILL to all processes of a job that began: now, or when its environment has answered. */
void lease_signal_job(struct job *j, int signo);

/* Of one on a terminal that has not ended: its terminal has another size, now or when it runs. 0 or -errno. */
int lease_resize_job(struct lease *l, struct job *j, uint16_t rows, uint16_t columns);

/* Do what is due for the jobs of all leases. */
void leases_tick_jobs(struct leases *t, int64_t now);

/* Written down before a job: what is to be cleaned away behind it, and what an earlier one made. 0 or -errno. */
int lease_write_use(struct lease *l);
