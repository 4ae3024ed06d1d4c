/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How long the turns of the loop take.
 *
 * No request is answered during a turn, so its length is the delay of all
 * others. The owner of the loop reports each turn.
 */

#include <stdint.h>

#define LAG_SECONDS 60 /* in "the last minute" */

struct lag {
        uint64_t turns, slow_turns; /* slow: LAG_SLOW_US or more */
        int64_t sum_us, longest_us;
        int64_t seconds[LAG_SECONDS], longest_of_second_us[LAG_SECONDS]; /* by second, modulo */
        int64_t warned_us; /* when a stall was last logged; 0: never */
        uint64_t stalls_untold; /* that were not logged since */
};

/* A turn that took @took_us has ended. Logs stalls, at most one in LAG_WARN_EVERY_US. */
void lag_turn(struct lag *l, int64_t took_us, int64_t now_us);

/* The longest turn of the last minute. */
int64_t lag_longest_of_minute(const struct lag *l, int64_t now_us);
