/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Tables of the legal transitions between the states of a kind of object.
 *
 * Each kind has one setter of its state. The setter asks transition_check()
 * first, and changes nothing if that returns false.
 *
 * An illegal transition is a bug of this program. In production it is logged
 * and not made. It aborts if the environment variable MODALPOOL_STRICT is set,
 * to any value: check.h sets it for unit tests, simulate.c for the simulation,
 * conftest.py for the mounts of cases.
 */

#include <stdbool.h>
#include <stdint.h>

#define TRANSITION_TO(state) (UINT32_C(1) << (state))

struct transitions {
        const char *what;         /* the kind, for the log: "sandbox" */
        const char *key;          /* before its name in the log: "environment" */
        unsigned n;               /* states, at most 32 */
        const char *const *names; /* by state */
        const uint32_t *to;       /* by state: the states that may follow it, TRANSITION_TO() of each */
};

static inline bool transition_is_legal(const struct transitions *t, unsigned from, unsigned to) {
        return t->to[from] & TRANSITION_TO(to);
}

/* Whether the object @name may go from one state to another. */
bool transition_check(const struct transitions *t, const char *name, unsigned from, unsigned to);
