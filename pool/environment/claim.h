/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A claim: the request of one lease for an environment.
 *
 *   none → waiting → granted → none
 *          waiting → none          it failed, or was released
 *
 * A claim waits in line until it is granted an environment for itself alone,
 * or fails. A granted claim is lost when its environment dies. The claim
 * belongs to the lease, the environment to the pool.
 *
 * The users in line take turns, one claim each, and the claims of one user are
 * served in order of arrival: a user with many claims does not keep others
 * waiting (start-time fair queueing, each claim with the same weight).
 *
 * Leases use pool_claim() and the other functions for claims in pool.h. The
 * line belongs to the pool. It needs no maximum: each lease has one claim, and
 * the number of leases is bounded.
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

/* None of these comes from inside a call by the lease. */
struct claim_events {
        void (*granted)(struct claim *c);
        /* The state is CLAIM_NONE again in these two. */
        void (*failed)(struct claim *c, const struct result *why);
        void (*lost)(struct claim *c, const struct result *why);
};

/* A user with claims. It exists as long as one of its claims. */
struct claim_user {
        struct list link;
        uid_t uid;
        unsigned n_claims;   /* in any state */
        struct list waiting; /* in order of arrival */
        unsigned n_waiting, n_granted;
        unsigned n_ahead; /* claims of this user that tick.c has counted so far in one pass of the line */
};

struct claim {
        struct list link;     /* in the line, exactly while waiting */
        struct list link_age, link_user; /* likewise */
        struct claim_user *user;
        uint64_t turn;
        enum claim_state state;
        const struct claim_events *events;
        struct environment *environment; /* exactly while granted */
        const char *name;                /* of the lease, for logs; borrowed */
        uid_t uid;                       /* of the lease's owner */
        int64_t since_us;                /* when the wait began */
        int64_t waited_us;               /* how long it took, once it is over */
        uint64_t number;                 /* in order of arrival, from 1 */
};

/* The claims that wait. A claim leaves the line granted, failed or released. */
struct claim_line {
        struct list claims; /* in the order in which they are served */
        struct list by_age; /* in order of arrival */
        struct list users;
        unsigned n;
        uint64_t turn;     /* that a user without claims in line gets when joining now */
        uint64_t n_joined; /* since the start */
        uint64_t n_seen;   /* of these, the claims that a tick has tried to serve */
};

void claim_line_init(struct claim_line *line);

/* 0 or -ENOMEM. A claim is deinitialised in state CLAIM_NONE. */
int claim_init(struct claim *c, struct claim_line *line, const struct claim_events *events, const char *name, uid_t uid);
void claim_deinit(struct claim *c, struct claim_line *line);

void claim_line_join(struct claim_line *line, struct claim *c, int64_t now_us);
void claim_line_leave(struct claim_line *line, struct claim *c, int64_t now_us);

/* The claim was served and leaves the line: whoever joins from now on comes behind the claims of its turn. */
void claim_line_served(struct claim_line *line, const struct claim *c);
