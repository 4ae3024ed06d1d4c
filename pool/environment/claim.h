/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A claim: the wish of one lease for an environment.
 *
 *   none → waiting → granted → none
 *          waiting → none          it failed, or was released
 *
 * A claim waits in line, first come first served, until it is granted an
 * environment for itself alone, or fails. A granted claim is lost when its
 * environment dies. The claim belongs to the lease, the environment to the
 * pool.
 *
 * Leases use pool_claim() and its kind (pool.h). The line is the pool's own.
 * It has no maximum of its own: each lease has one claim, and leases have one.
 */

#include <stdint.h>
#include <sys/types.h>

#include "pool/util/list.h"
#include "pool/util/result.h"

struct claim;
struct environment;

enum claim_state {
        CLAIM_NONE,    /* unknown to the pool */
        CLAIM_WAITING, /* in line */
        CLAIM_GRANTED, /* holds an environment */
};

/* None of these comes from inside a call of the lease's. */
struct claim_events {
        void (*granted)(struct claim *c);
        /* The state is CLAIM_NONE again in these two. */
        void (*failed)(struct claim *c, const struct result *why);
        void (*lost)(struct claim *c, const struct result *why);
};

struct claim {
        struct list link; /* in the line, exactly while waiting */
        enum claim_state state;
        const struct claim_events *events;
        struct environment *environment; /* exactly while granted */
        const char *name;                /* the lease's, for logs; borrowed */
        uid_t uid;                       /* and its owner */
        int64_t since_us;                /* when the wait began */
        int64_t waited_us;               /* how long it took, once it is over */
        uint64_t number;                 /* in order of arrival, from 1 */
};

void claim_init(struct claim *c, const struct claim_events *events, const char *name, uid_t uid);

/* The claims that wait, in order of arrival. A claim leaves it granted, failed or released. */
struct claim_line {
        struct list claims;
        unsigned n;
        uint64_t n_joined; /* ever */
        uint64_t n_seen;   /* of these, the ones that a tick has tried to serve */
};

void claim_line_init(struct claim_line *line);
void claim_line_join(struct claim_line *line, struct claim *c, int64_t now_us);
void claim_line_leave(struct claim_line *line, struct claim *c, int64_t now_us);
