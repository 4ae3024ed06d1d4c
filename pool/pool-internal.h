/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the parts of the pool, and by nobody else:
 *
 *   pool.c       environments and claims: what happens to them
 *   pool-tick.c  what is due: to hand out, to create, to shrink, to give up
 */

#include "pool/limits.h"
#include "pool/pool.h"
#include "pool/util/uuid.h"

struct environment {
        struct list link; /* in the pool's list of its state */
        struct pool *pool;
        enum environment_state state;
        struct sandbox *sandbox;
        char nonce[UUID_SIZE]; /* what it is called before anybody answered */
        struct claim *claim;  /* exactly while leased */
        bool retire;          /* destroyed, not lent again, at its next release */
        uint64_t uses;
        int64_t created_us;
        int64_t since_us;     /* in this state */
        int64_t retire_us;    /* from then on it is not lent any more */
        int64_t deadline_us;  /* while cleaning: when to give up; while idle: when it has been so for too long */
};

struct pool {
        struct backend *backend;
        const struct config *config;
        struct event_ring *events;
        struct list environments[ENVIRONMENT_N_STATES];
        unsigned count[ENVIRONMENT_N_STATES];
        struct list waiting; /* claims in order of arrival; they leave granted, failed or released */
        unsigned n_waiting;
        unsigned prewarm;
        uint64_t n_claims, n_claims_ticked; /* ever made; of these, seen by a tick */
        int64_t look_us; /* not later than the first time at which an idle environment has to go */
        bool stopping;
        int64_t (*clock)(void);

        /* A failed create puts off the next one; a successful one forgets that. */
        struct result trouble;
        int64_t backoff_us;
        int64_t create_after_us;

        struct pool_totals totals;
};

/* Create one more. Counted before it is sent, so that a wish is never made twice. 0 or -errno. */
int environment_create(struct pool *p);

/* Destroy it, in whatever state it is; nobody may hold it. */
void environment_end(struct environment *e);

/* Take a claim out of the line. */
void claim_leave_line(struct pool *p, struct claim *c);

/* Give the environment to the claim. */
void claim_grant(struct pool *p, struct claim *c, struct environment *e);
