/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The maximum of everything that can grow, and every fixed time: options, events, the journal's numbers, turns of the
 * loop.
 */

#include <stdint.h>

#include "pool/util/clock.h"

#define LEASES_MAX 1000000                          /* the most that max_leases= takes */
#define ENVIRONMENTS_MAX 100000                     /* the most that max= takes */
#define JOB_NUMBER_MAX ((UINT32_C(1) << 24) - 1)    /* jobs of one lease: what a node number holds … */
#define JOB_NAMED_FIRST (UINT32_C(1) << 23)         /* … of which those with names have the upper half */
#define LEASE_SERIAL_MAX ((UINT64_C(1) << 34) - 1)  /* leases of one mount: what a node number holds */
#define EVENTS_MAX 4096                             /* lines kept in .pool/events */
#define POOL_EVENTS_MAX 128                         /* of a pool beside the mount's own */
#define EVENT_LEN_MAX 2048                          /* bytes of one */
#define JOBS_AT_ONCE_MAX 16                         /* the most that jobs_max= takes */
#define CONNECTIONS_MAX 256                         /* the most that connections_max= takes: what a helper has */
#define CREATE_RATE_MAX 1000                        /* the most that create_rate= takes */
#define CREATES_MAX 1000                            /* the most that creates= takes */

#define OPTION_PATHS_MAX 4096                       /* bytes of a list of paths */

#define LAG_SLOW_US (USEC_PER_SEC / 10)             /* a turn of the loop that is counted as slow … */
#define LAG_STALL_US USEC_PER_SEC                   /* … and one that is logged, … */
#define LAG_WARN_EVERY_US (60 * USEC_PER_SEC)       /* … at most so often */
#define PROBE_TIMEOUT_MIN_US (USEC_PER_SEC / 10)    /* the least that probe_timeout= takes */
