/* SPDX-License-Identifier: MIT */
#include "pool/base/lag.h"

#include <inttypes.h>

#include "pool/base/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

static void warn(struct lag *l, int64_t took_us, int64_t now_us) {
        if (l->warned_us && now_us < clock_after(l->warned_us, LAG_WARN_EVERY_US)) {
                l->stalls_untold++;
                return;
        }
        log_warning("the event loop was busy for %.3f s and answered no request meanwhile; %" PRIu64
                    " earlier times were not logged",
                    (double)took_us / USEC_PER_SEC, l->stalls_untold);
        l->stalls_untold = 0;
        l->warned_us = now_us;
}

void lag_turn(struct lag *l, int64_t took_us, int64_t now_us) {
        int64_t second = now_us / USEC_PER_SEC;
        int64_t *longest = &l->longest_of_second_us[second % LAG_SECONDS];

        l->turns++;
        l->sum_us += took_us;
        l->slow_turns += took_us >= LAG_SLOW_US;
        if (l->longest_us < took_us)
                l->longest_us = took_us;
        if (l->seconds[second % LAG_SECONDS] != second) {
                l->seconds[second % LAG_SECONDS] = second;
                *longest = 0;
        }
        if (*longest < took_us)
                *longest = took_us;
        if (took_us >= LAG_STALL_US)
                warn(l, took_us, now_us);
}

int64_t lag_longest_of_minute(const struct lag *l, int64_t now_us) {
        int64_t second = now_us / USEC_PER_SEC, longest = 0;

        for (int i = 0; i < LAG_SECONDS; i++)
                if (l->seconds[i] > second - LAG_SECONDS && longest < l->longest_of_second_us[i])
                        longest = l->longest_of_second_us[i];
        return longest;
}
