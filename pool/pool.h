/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The pool: environments, and who waits for one.
 *
 * An environment is in exactly one state, which is the list it stands in:
 *
 *   creating → idle ⇄ leased → cleaning → idle
 *   and from each of them → ending → gone
 *
 * A claim is a lease's wish for an environment. It waits in line, first come
 * first served, until it is granted one for itself alone, or fails; a granted
 * claim may be lost, when its environment dies. The claim belongs to the
 * lease; an environment belongs to the pool, always.
 *
 * Inputs change states and nothing else. pool_tick() then brings the pool to
 * where it should be: hands out, creates, shrinks, gives up. The clock is an
 * argument. Nothing here blocks, and no event comes from inside pool_claim()
 * or pool_release().
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/config.h"
#include "pool/event.h"
#include "pool/util/list.h"

struct pool;
struct environment;

enum environment_state {
        ENVIRONMENT_CREATING,
        ENVIRONMENT_IDLE,
        ENVIRONMENT_LEASED,
        ENVIRONMENT_CLEANING,
        ENVIRONMENT_ENDING,
        ENVIRONMENT_N_STATES,
};

enum claim_state {
        CLAIM_NONE,    /* not in the pool's books */
        CLAIM_WAITING, /* in line */
        CLAIM_GRANTED, /* holds an environment */
};

struct claim;

struct claim_events {
        void (*granted)(struct claim *c);
        /* The claim is out of the books again. */
        void (*failed)(struct claim *c, const struct result *why);
        void (*lost)(struct claim *c, const struct result *why);
};

struct claim {
        struct list link;
        enum claim_state state;
        const struct claim_events *events;
        struct environment *environment; /* while granted */
        const char *name;                /* the lease's, for logs; borrowed */
        int64_t since_us;                /* when the wait began */
        int64_t waited_us;               /* how long it took, once it is over */
        uint64_t number;                 /* in order of arrival, from 1 */
};

/* Counts since the start; gauges are in pool_count(). */
struct pool_totals {
        uint64_t created, create_failures, destroyed, destroy_failures, died;
        uint64_t granted, granted_warm, oversubscribed, cleaned, clean_failures;
        int64_t wait_us; /* sum over all granted claims */
        uint64_t orphans, adopted; /* environments of an earlier run: found, and of these taken back */
};

/* @backend, @config and @events are borrowed and outlive the pool; @clock gives the time, in microseconds. */
int pool_new(struct pool **out, struct backend *backend, const struct config *config, struct event_ring *events,
             int64_t (*clock)(void));

/* Only after pool_is_empty(). NULL is fine. */
void pool_free(struct pool *p);

void claim_init(struct claim *c, const struct claim_events *events, const char *name);

/* Get in line. */
void pool_claim(struct pool *p, struct claim *c);

/*
 * Leave the line, or give the environment back. @workdir is what the lease may
 * have left in it, to be removed before the environment is lent again, or NULL
 * where nothing ever ran. No exec may be running. Fine in any state.
 */
void pool_release(struct pool *p, struct claim *c, const char *workdir);

/* The environment cannot be trusted any more: the claim loses it and it is destroyed. */
void pool_condemn(struct pool *p, struct claim *c, const struct result *why);

/* Do what is due; the time of the next thing due, or USEC_NEVER. Call after each turn of the loop. */
int64_t pool_tick(struct pool *p);

/* Keep @n idle environments ready, beyond config's min; at most max. */
void pool_prewarm(struct pool *p, unsigned n);

/* Replace every environment: idle ones now, leased ones when released. */
void pool_recycle(struct pool *p);

/* Destroy everything as soon as it is released, create nothing. */
void pool_stop(struct pool *p);
bool pool_is_empty(const struct pool *p);

unsigned pool_count(const struct pool *p, enum environment_state state);
unsigned pool_count_all(const struct pool *p);
unsigned pool_count_waiting(const struct pool *p);
const struct pool_totals *pool_totals(const struct pool *p);
const struct backend *pool_backend(const struct pool *p);

/* Why the newest create failed, while that stands in the way; else NULL. */
const struct result *pool_trouble(const struct pool *p);

/* An environment, for jobs and for people. */
struct sandbox *environment_sandbox(const struct environment *e);
const char *environment_id(const struct environment *e);
const char *environment_state_name(enum environment_state state);

struct environment_info {
        const char *id;
        enum environment_state state;
        const char *lease; /* or NULL */
        uint64_t uses;     /* leases so far, this one too */
        int64_t created_us;
        int64_t since_us;  /* in this state */
        int64_t retire_us; /* it is not lent from then on, or USEC_NEVER */
};

/* Call @each for every environment, by state, oldest first. */
void pool_each_environment(const struct pool *p, void (*each)(void *data, const struct environment_info *info),
                           void *data);
