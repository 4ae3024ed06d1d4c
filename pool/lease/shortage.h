/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Leases whose next job could not be started, because this machine had no descriptor or memory for it. The job waits
 * until something is given back, and is tried again from time to time, in the order in which they were tried.
 */

#include "pool/lease/lease.h"

struct leases;

/* The job could not be started for @r. */
void lease_starve(struct lease *l, const struct job *j, int r);

/* Try again, through @start, which may starve the lease again. */
void leases_try_starved(struct leases *t, void (*start)(struct lease *l));
