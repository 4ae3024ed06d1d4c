/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How long the turns of the loop take.
 *
 * While a turn lasts nobody is answered: its length is what everything else is
 * late by. Whoever runs the loop tells each turn's; reading is free.
 */

#include <stdint.h>

#define LAG_SECONDS 60 /* that "of the minute" looks back */

struct lag {
        uint64_t turns, slow_turns; /* slow: LAG_SLOW_US or more */
        int64_t sum_us, longest_us;
        int64_t seconds[LAG_SECONDS], longest_of_second_us[LAG_SECONDS]; /* by second, modulo */
        int64_t warned_us; /* when the log was told of a stall; 0: never */
        uint64_t stalls_untold;
};

/* A turn has ended that took so long. Logs those that everybody feels, but not each of many. */
void lag_turn(struct lag *l, int64_t took_us, int64_t now_us);

/* The longest turn of the last minute. */
int64_t lag_longest_of_minute(const struct lag *l, int64_t now_us);
