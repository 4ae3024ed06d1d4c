/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time: environments. */

#include <stdint.h>

#include "pool/util/clock.h"

#define LISTED_NAMED_MAX 10                         /* sandboxes of a listing that the log names, of each kind */
#define PROBES_AT_ONCE 8                            /* idle environments that are asked whether they work */

#define CLEAN_TIMEOUT_US (60 * USEC_PER_SEC)        /* then the environment is destroyed instead */
#define ORPHAN_GRACE_US (60 * USEC_PER_SEC)         /* a younger sandbox, that this run may have made, is no orphan */
#define TERMINATED_MAX 4096                         /* ended environments that are remembered, for ORPHAN_GRACE_US */
#define ORPHAN_INTERVAL_US (600 * USEC_PER_SEC)     /* between lists of what the provider has */
#define CREATE_CATCH_UP_US (USEC_PER_SEC / 10)      /* creates that were sent late, or not needed before, may follow at once */
#define BACKOFF_MIN_US (USEC_PER_SEC / 2)           /* between failed creates, doubling … */
#define BACKOFF_MAX_US (30 * USEC_PER_SEC)          /* … up to this */
#define BREAKER_ERRORS 3                            /* creates refused for good in a row: then there are no more … */
#define BREAKER_PAUSE_US (30 * USEC_PER_SEC)        /* … for so long, and then one to see */
