/* SPDX-License-Identifier: MIT */
#pragma once

/* Random numbers from a seed, the same on every machine: splitmix64 (Steele, Lea, Flood 2014). */

#include <stdbool.h>
#include <stdint.h>

struct prng {
        uint64_t state;
};

static inline uint64_t prng_next(struct prng *p) {
        uint64_t z = p->state += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

/* From 0 to @n - 1; 0 for 0. The bias of the remainder does not matter here. */
static inline uint64_t prng_below(struct prng *p, uint64_t n) {
        return n ? prng_next(p) % n : 0;
}

/* True @n times in a thousand. */
static inline bool prng_chance(struct prng *p, unsigned n) {
        return prng_below(p, 1000) < n;
}

/* From 0 to @most, with each order of magnitude as likely as the next. */
static inline uint64_t prng_scaled(struct prng *p, uint64_t most) {
        unsigned bits = most ? 64 - (unsigned)__builtin_clzll(most) : 0;
        uint64_t n = prng_below(p, UINT64_C(1) << prng_below(p, bits + 1));

        return n < most ? n : most;
}
