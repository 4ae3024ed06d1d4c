/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The simulator's ground: a clock that only moves when told to, timers on it,
 * one source of chance, and a trace of the newest events for when it fails.
 *
 * The core's clock takes no argument, so there is one of all this a process.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/prng.h"

#define SIM_TRACE_LINES 50
#define SIM_WALL_US INT64_C(1700000000000000) /* wall time when the clock shows 0 */

struct sim {
        int64_t now_us;
        struct prng prng;
        uint64_t seed;
        uint64_t planned;  /* events of this run, for the line that says how to replay it */
        uint64_t n_events; /* timers fired, and ticks that were due in between */
        uint64_t turn;     /* turns of the loop: events, then one tick */
};

extern struct sim sim;

/* Start over with an empty queue; it must be empty already. */
void sim_reset(uint64_t seed, uint64_t planned);
void sim_free(void);

int64_t sim_clock(void);
uint64_t sim_below(uint64_t n);
bool sim_chance(unsigned per_thousand);

/* Embedded in its owner. Fires once, in order of time, and of arming where times are equal. */
struct timer {
        int64_t at_us;
        uint64_t order;
        size_t place; /* in the heap, from 1; 0: not armed */
        void (*fire)(struct timer *t);
};

void timer_arm(struct timer *t, int64_t after_us, void (*fire)(struct timer *));
void timer_cancel(struct timer *t);

/* The next timer to fire, or NULL. */
struct timer *timer_next(void);
void timer_fire(struct timer *t);

/* One line for the trace. With sim_verbose also to stderr. */
extern bool sim_verbose;
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An invariant is broken: tell what, the seed, the event, how to replay, and the newest events; exit 1. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Do the same when an assertion or a sanitizer ends the process. */
void sim_catch_aborts(void);

#define SIM_CHECK(condition, ...)                                                                                      \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        sim_fail(__VA_ARGS__);                                                                         \
        } while (0)
