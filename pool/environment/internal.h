/* SPDX-License-Identifier: MIT */
#pragma once

/* The pool's body, for pool.c and tick.c and for nobody else. */

#include "pool/environment/breaker.h"
#include "pool/environment/environment.h"
#include "pool/environment/orphans.h"
#include "pool/environment/pool.h"

struct pool {
        const struct config *config; /* borrowed */
        int64_t (*clock)(void);
        uint64_t random;             /* the state of the generator for jitter */
        struct environments environments;
        struct claim_line line;
        struct breaker breaker;
        struct orphans orphans;
        unsigned prewarm;
        bool stopping;
        struct pool_totals totals;

        int64_t retire_due_us; /* not later than the first time at which an idle environment is too old to be lent */
        int64_t idle_due_us;   /* likewise, was idle for too long, or is to be probed */
        bool held_back;        /* one of these was not served, for min or because of PROBES_AT_ONCE */
};

/* Take a claim out of the line. */
void pool_remove_claim(struct pool *p, struct claim *c);

/* Give an idle environment to a claim that waits. */
void pool_grant(struct pool *p, struct claim *c, struct environment *e);
