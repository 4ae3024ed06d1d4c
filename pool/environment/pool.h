/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The pool: it decides how many environments there are, and which claim gets
 * which one. See environment.h and claim.h.
 *
 * Inputs change states and nothing else. pool_tick() then acts on the states:
 * it grants, creates, terminates and gives up. Nothing here blocks, and no
 * event comes from inside pool_claim() or pool_release().
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/backend/backend.h"
#include "pool/base/config.h"
#include "pool/base/event.h"
#include "pool/base/journal.h"
#include "pool/environment/claim.h"
#include "pool/environment/environment.h"
#include "pool/environment/returns.h"

struct pool;
struct fleet;

/* Counts since the start; gauges are in pool_count(). */
struct pool_totals {
        uint64_t created, create_failures, destroyed, destroy_failures, died;
        uint64_t granted, granted_warm, oversubscribed, cleaned, changed, clean_failures;
        uint64_t adopted; /* environments of an earlier run that were taken back */
        uint64_t orphans; /* sandboxes that the provider listed, the pool did not know, and were terminated */
        int64_t wait_us; /* sum over all granted claims */
};

/* What a pool is made of. All of it is borrowed, and outlives the pool. */
struct pool_parts {
        struct fleet *fleet; /* which the pool joins */
        uint64_t serial;     /* of the pool; 0: the mount's own */
        struct backend *backend; /* NULL: pool_set_backend() follows */
        const struct config *config;
        struct event_ring *ring;
        struct journal *journal; /* NULL keeps nothing */
        int64_t (*clock)(void);  /* in microseconds */
        uint64_t seed;           /* of all jitter: the same seed and the same events give the same pool */
};

/* 0 or -ENOMEM. */
int pool_new(struct pool **out, const struct pool_parts *parts);

/* Only after pool_is_empty(). NULL is allowed. */
void pool_free(struct pool *p);

/* A claim of the user @uid, in state CLAIM_NONE. @name is borrowed. 0 or -ENOMEM; deinit it in both cases. */
int pool_init_claim(struct pool *p, struct claim *c, const struct claim_events *events, const char *name, uid_t uid);

/* Only in state CLAIM_NONE. May be called twice. */
void pool_deinit_claim(struct pool *p, struct claim *c);

/* Get in line. */
void pool_claim(struct pool *p, struct claim *c);

/*
 * A job is about to run in the claim's environment, in @workdir, so that must be cleaned before it is lent again. On
 * -errno this could not be written to the journal, and nothing may run.
 */
int pool_use(struct pool *p, struct claim *c, const char *workdir);

/* The environment is not lent again after this claim. Allowed in any state. */
void pool_retire(struct pool *p, struct claim *c);

/* Leave the line, or give the environment back. No exec may be running. Allowed in any state. */
void pool_release(struct pool *p, struct claim *c);

/* The environment can no longer be trusted: the claim loses it, and it is destroyed. */
void pool_condemn(struct pool *p, struct claim *c, const struct result *why);

/* Why the claim has to wait: max_per_user, or the newest create failed. False: nothing but its turn, or it does not wait. */
bool pool_explain_wait(const struct pool *p, const struct claim *c, struct result *why);

/* Do what is due @now. Returns when the next action is due, or USEC_NEVER. Call after each turn of the loop. */
int64_t pool_tick(struct pool *p, int64_t now);

/* Keep @n idle environments ready, beyond config's min; at most max. */
void pool_prewarm(struct pool *p, unsigned n);

/* Replace every environment: idle ones now, leased ones when released. Creates are tried at once. */
void pool_recycle(struct pool *p);

/* Forget that creates failed: try at once. */
void pool_retry(struct pool *p);

/*
 * A pool without a backend creates nothing. It wants one once it has something to create. pool_set_backend() gives it one
 * that is ready, or takes it away (NULL), which is allowed as long as no environment that it made is left.
 * pool_backend_failed(): none can be had now, and @why says so.
 */
bool pool_wants_backend(const struct pool *p);
void pool_set_backend(struct pool *p, struct backend *backend);
void pool_backend_failed(struct pool *p, const struct result *why);

/* It will never have one: claims fail with the reason. */
void pool_backend_ended(struct pool *p, const struct result *why);

/* The configuration was changed: apply it to the existing environments, too. */
void pool_config_changed(struct pool *p);

/* Write every environment to the journal. 0 or -errno. */
int pool_write(struct pool *p);

/*
 * After a restart, when the mount's backend is ready: take back the environments in the journal, each into the pool that
 * @find gives for the serial. Each is asked whether it is alive. Those of leases wait for their claims
 * (pool_restore_claim); the others are lent once they are clean. Those of a pool that is gone (NULL) end.
 */
int pools_restore_environments(struct fleet *f, struct journal *j, struct pool *(*find)(void *data, uint64_t serial),
                               void *data);

/*
 * The claim held the environment of this nonce. True if the environment is there and belongs to no other user: the
 * claim is granted when the environment has answered, or lost if that fails.
 */
bool pool_restore_claim(struct pool *p, struct claim *c, const char *nonce);

/* The backend's answers to a list, for which fleet_tick() asks now and then: see orphans.h. */
void pool_found(struct pool *p, const struct sandbox_found *found);
void pool_listed(struct pool *p, const struct result *r);

/* Leave every environment alive for the next run as soon as it is released, and create none. */
void pool_leave(struct pool *p);

/* Destroy every environment as soon as it is released, and create none. */
void pool_stop(struct pool *p);
bool pool_is_empty(const struct pool *p);

unsigned pool_count(const struct pool *p, enum environment_state state);
unsigned pool_count_all(const struct pool *p);
unsigned pool_count_waiting(const struct pool *p);
const struct returns *pool_returns(const struct pool *p);
const struct pool_totals *pool_totals(const struct pool *p);
/* Of the mount: it has the provider's name and its client. */
const struct backend *pool_backend(const struct pool *p);

/* Why the newest create failed, as long as no later one succeeded; else NULL. */
const struct result *pool_trouble(const struct pool *p);

/* What is shown of an environment. */
struct environment_info {
        const char *id;
        enum environment_state state;
        const char *lease; /* or NULL */
        uid_t user;        /* the only user it is lent to; ENVIRONMENT_NO_USER: it was never lent */
        uint64_t uses;     /* leases so far, including this one */
        int64_t created_us;
        int64_t since_us;  /* when it entered this state */
        int64_t retire_us; /* from when on it is not lent, or USEC_NEVER */
        bool unanswered;   /* it is of an earlier run and has not answered yet */
};

/* Call @each for every environment, by state, oldest first. */
void pool_each_environment(const struct pool *p, void (*each)(void *data, const struct environment_info *info),
                           void *data);
