/* SPDX-License-Identifier: MIT */
#pragma once

/* Random numbers from a seed, for jitter and injected faults: splitmix64 (Steele, Lea, Flood 2014). Not for secrets. */

#include <stdint.h>

static inline uint64_t random_next(uint64_t *state) {
        uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

/* From 0 to @n - 1, @n above 0. The bias of the remainder does not matter here. */
static inline uint64_t random_below(uint64_t *state, uint64_t n) {
        return random_next(state) % n;
}
