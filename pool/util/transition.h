/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Tables of the legal transitions between the states of a kind of object.
 *
 * Each kind has one setter of its state. The setter asks transition_check()
 * first, and changes nothing when that says no.
 *
 * An illegal transition is a mistake of this program. In production it is
 * logged, and it is not made. In tests it aborts: there the environment
 * variable MODALPOOL_STRICT is set, to whatever. check.h sets it for unit
 * tests, simulate.c for the simulation, conftest.py for the mounts of cases.
 */

#include <stdbool.h>
#include <stdint.h>

#define TRANSITION_TO(state) (UINT32_C(1) << (state))

struct transitions {
        const char *what;         /* the kind, for the log: "sandbox" */
        const char *key;          /* what a line of the log calls one by: "environment" */
        unsigned n;               /* states, at most 32 */
        const char *const *names; /* by state */
        const uint32_t *to;       /* by state: those that may follow it, as TRANSITION_TO() of each */
};

static inline bool transition_is_legal(const struct transitions *t, unsigned from, unsigned to) {
        return t->to[from] & TRANSITION_TO(to);
}

/* Whether the object @name may go from one state to another. */
bool transition_check(const struct transitions *t, const char *name, unsigned from, unsigned to);
