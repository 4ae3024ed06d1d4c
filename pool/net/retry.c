/* SPDX-License-Identifier: MIT */
#include "pool/net/retry.h"

#include <sys/random.h>

#include "pool/util/clock.h"

#define THROTTLE_MIN_US (100 * USEC_PER_MSEC)

void retry_reset(struct retry *r, int64_t now) {
        r->since_us = now;
        r->failures = 0;
        r->delay_us = r->first_us;
}

bool retry_may_pass(const struct grpc_status *status) {
        /* A certificate does not get better within a second, nor does a request that cannot be made. */
        if (status->cause == HTTP_UNTRUSTED || status->cause == HTTP_REFUSED)
                return false;
        switch (status->code) {
        case GRPC_CANCELLED:
        case GRPC_UNKNOWN:
        case GRPC_DEADLINE_EXCEEDED:
        case GRPC_INTERNAL:
        case GRPC_UNAVAILABLE:
                return true;
        default:
                return false;
        }
}

/* Between a half and all of @us. */
static int64_t jitter(int64_t us) {
        uint32_t dice = 0;

        (void)!getrandom(&dice, sizeof(dice), GRND_NONBLOCK);
        return us / 2 + us / 2 * (dice % 1024) / 1024;
}

int64_t retry_next(struct retry *r, const struct grpc_status *status, int64_t now) {
        int64_t delay;

        /* Nobody was asked: that is no failure, and the time counts from here. */
        if (status->cause == HTTP_STARVED) {
                r->since_us = now;
                return r->most_us;
        }
        if (status->retry_after_us >= 0) {
                delay = status->retry_after_us < THROTTLE_MIN_US ? THROTTLE_MIN_US : status->retry_after_us;
                r->throttled++;
        } else {
                if (!retry_may_pass(status) || (r->tries && r->failures >= r->tries))
                        return -1;
                r->failures++;
                delay = jitter(r->delay_us);
                r->delay_us = r->delay_us * 2 > r->most_us ? r->most_us : r->delay_us * 2;
        }
        /* A first failure may be found long after it came about, by a daemon that was stopped: one more try is due. */
        if (status->retry_after_us < 0 && r->failures == 1)
                return delay;
        if (r->retry_for_us && now + delay - r->since_us > r->retry_for_us)
                return -1;
        return delay;
}
