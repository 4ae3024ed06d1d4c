/* SPDX-License-Identifier: MIT */
#pragma once

/* The pool's struct, for pool.c and tick.c only. */

#include "pool/environment/breaker.h"
#include "pool/environment/environment.h"
#include "pool/environment/fleet.h"
#include "pool/environment/pool.h"

struct pool {
        struct fleet *fleet;         /* borrowed, as is what follows */
        const struct config *config;
        int64_t (*clock)(void);
        uint64_t random;             /* the state of the generator for jitter */
        struct environments environments;
        struct fleet_member member;
        struct claim_line line;
        struct breaker breaker;
        unsigned prewarm;
        bool wants_backend; /* the newest tick had something to create, and no backend */
        bool stopping;
        struct pool_totals totals;
        struct returns returns;
        int64_t due_us; /* when to tick next; 0: at once, because something has happened */

        /* Lower bounds of the next time at which an idle environment … */
        int64_t retire_due_us; /* … becomes too old to be lent, */
        int64_t idle_due_us;   /* … has been idle for too long, or is to be probed. */
        bool held_back;        /* min or PROBES_AT_ONCE kept one of these from being served */
};

/* Something has happened: the next tick has to act on it. */
static inline void pool_touch(struct pool *p) {
        p->due_us = 0;
}

/* Take a claim out of the line. */
void pool_remove_claim(struct pool *p, struct claim *c);

/* An environment came back from a lease whose jobs ran there. @path: the first that was changed, or NULL. */
void pool_count_return(struct pool *p, enum environment_return how, const char *path);

/* Lend an idle environment to a waiting claim. */
void pool_grant(struct pool *p, struct claim *c, struct environment *e);
