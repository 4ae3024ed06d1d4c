/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * When to try a call again: a state without a loop, told each failure.
 *
 * Statuses that may pass (UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED, INTERNAL,
 * UNKNOWN) are tried again after a delay that doubles, with a random part, so
 * that many callers do not come back at once. A server that says when to come
 * back is obeyed, and that does not count as a try. A call that finds no
 * descriptor on this machine waits for one.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/net/grpc.h"

struct retry {
        int64_t first_us, most_us; /* the delay */
        unsigned tries;            /* failures after which another try comes; 0: any number … */
        int64_t retry_for_us;      /* … within this time since begin or progress, but the first in any case; 0: for ever */
        /* state */
        int64_t since_us;
        unsigned failures;         /* in a row */
        unsigned throttled;
        int64_t delay_us;
};

/* Begin, or begin anew after something went well. */
void retry_reset(struct retry *r, int64_t now);

/* A status that another try may change. */
bool retry_may_pass(const struct grpc_status *status);

/* How long to wait before the next try, or -1: there is none. */
int64_t retry_next(struct retry *r, const struct grpc_status *status, int64_t now);
