/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the parts of the pool, and by nobody else:
 *
 *   pool.c       environments and claims: what happens to them
 *   pool-tick.c  what is due: to hand out, to create, to shrink, to give up
 *   pool-restore.c  after a restart: what an earlier run left, and what is nobody's
 */

#include <uthash.h>

#include "pool/limits.h"
#include "pool/pool.h"
#include "pool/util/uuid.h"

struct environment {
        struct list link; /* in the pool's list of its state */
        struct pool *pool;
        enum environment_state state;
        struct sandbox *sandbox;
        UT_hash_handle hh;     /* in the pool's, by nonce */
        char nonce[UUID_SIZE]; /* what it is called before anybody answered */
        char *workdir;         /* what a lease may have left in it, or NULL */
        bool adopted;          /* an earlier run made it */
        char *ticket;          /* of an adopted one, until it answers */
        bool ending;           /* it is to be destroyed, not lent */
        bool left;             /* it was let go of, alive */
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
        struct journal *journal;
        const struct config *config;
        struct event_ring *events;
        struct list environments[ENVIRONMENT_N_STATES];
        unsigned count[ENVIRONMENT_N_STATES];
        struct environment *by_nonce; /* a hash over all of them */
        struct list waiting; /* claims in order of arrival; they leave granted, failed or released */
        unsigned n_waiting;
        unsigned prewarm;
        uint64_t n_claims, n_claims_ticked; /* ever made; of these, seen by a tick */
        int64_t look_us; /* not later than the first time at which an idle environment has to go */
        bool stopping;
        bool leaving;    /* stopping, but the environments live on */
        int64_t list_us; /* when to ask the provider next what there is, or USEC_NEVER; … */
        int64_t list_interval_us; /* … and how long after that again */
        int64_t (*clock)(void);

        /* A failed create puts off the next one; a successful one forgets that. */
        struct result trouble;
        int64_t backoff_us;
        int64_t create_after_us;

        struct pool_totals totals;
};

/* An environment that is in no list yet, or NULL; its nonce is set. */
struct environment *environment_new(struct pool *p, const char *nonce);
void environment_free(struct environment *e);

/* Put it in the books: its sandbox is there. */
void environment_add(struct environment *e);

/* From now on the claim has it. */
void environment_hold(struct environment *e, struct claim *c);

/* Write down how it stands. 0 or -errno. */
int environment_write(struct environment *e);

extern const struct sandbox_events environment_events;

/* pool-restore.c: list when that is due; when to look again. */
int64_t pool_tick_list(struct pool *p, int64_t now);

/* Create one more. Counted before it is sent, so that a wish is never made twice. 0 or -errno. */
int environment_create(struct pool *p);

/* Destroy it, in whatever state it is; nobody may hold it. */
void environment_end(struct environment *e);

/* Take a claim out of the line. */
void claim_leave_line(struct pool *p, struct claim *c);

/* Give the environment to the claim. */
void claim_grant(struct pool *p, struct claim *c, struct environment *e);
