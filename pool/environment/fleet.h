/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The fleet: the environments of all pools of a mount. It has what these pools share.
 *
 * Each pool has a set of environments and is a member. The mount's own pool joins first: its backend takes back the
 * environments of an earlier run, whichever pool they belong to, and lists what the provider has; its set takes the
 * orphans.
 *
 * Creates are limited for all pools together: by creates and create_rate, and by max_total environments in whatever state.
 * A pool that may not create for its claims now stands in the queue. Places are given in the order of the queue, one each;
 * a pool that wants more goes to its end, as does one that lends an environment again. While max_total leaves no place, the environment that has been idle longest in
 * any pool ends for each pool in the queue. Pools whose leases come and go may lend their environments again and again
 * meanwhile; but a pool in the queue is passed over at most max_total times in that way, then the next environment that
 * comes free ends for it.
 *
 * The core owns the fleet, which outlives all pools. The queue needs no maximum: each pool is in it once.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/environment/environment.h"
#include "pool/environment/orphans.h"
#include "pool/util/clock.h"
#include "pool/util/list.h"

struct fleet_member {
        struct list link;         /* in the fleet's members */
        struct list queue;        /* in the fleet's queue, while it waits for a place */
        struct environments *set;
        int64_t *due_us;          /* of the pool: 0 asks for a tick */
        uint64_t since;           /* the fleet's n_lent_again when it began to wait */
        bool wants_warm;          /* it would create for its min, and may not now */
};

struct fleet {
        struct environment *by_nonce; /* a hash over the environments of all sets */
        unsigned count[ENVIRONMENT_N_STATES];
        struct backend *backend;      /* the mount's own; borrowed, as is the next */
        const struct config *config;  /* the mount's */
        struct orphans orphans;
        struct list members, queue;
        unsigned n_warm;              /* members that want to create for their min */
        int64_t paced_us;             /* create_rate allows the next create then */
        uint64_t n_lent_again;        /* while any pool waited for a place: environments that had another lease before */
        bool stopping;
};

void fleet_init(struct fleet *f, struct backend *backend, const struct config *config);
void fleet_deinit(struct fleet *f);

/* The first member is the mount's own pool. A member leaves without environments. */
void fleet_join(struct fleet *f, struct fleet_member *m, struct environments *set, int64_t *due_us);
void fleet_leave(struct fleet *f, struct fleet_member *m);

/* Whether this member may create one more @now for a claim. If not, it is in the queue, and is ticked when it may. */
bool fleet_may_create(struct fleet *f, struct fleet_member *m, int64_t now);

/* Likewise, to keep its min ready: only what nobody waits for. */
bool fleet_may_create_warm(struct fleet *f, struct fleet_member *m, int64_t now);

/* It has created one. */
void fleet_created(struct fleet *f, struct fleet_member *m, int64_t now);

/* It wants no place for a claim any more, or cannot use one now. */
void fleet_stop_waiting(struct fleet_member *m);

/*
 * Whether an idle environment is not to be lent by this member, because it has to end for a pool in the queue. Then the
 * member goes to the end of the queue, if it is there too.
 */
bool fleet_must_yield(struct fleet *f, struct fleet_member *m);

/* The member lends an environment that had another lease before. */
void fleet_lent_again(struct fleet *f, struct fleet_member *m);

/* Whether max_total keeps the member waiting. */
bool fleet_is_full_for(const struct fleet *f, const struct fleet_member *m);

/* List orphans when that is due. Returns when it is due next, or USEC_NEVER. */
static inline int64_t fleet_tick(struct fleet *f, int64_t now) {
        if (f->orphans.list_us > now)
                return f->orphans.list_us;
        return f->stopping ? USEC_NEVER : orphans_tick(&f->orphans, now);
}

/*
 * After a tick of all pools: end idle environments for those that wait. True: a member may create now, or may now have what
 * it wants, so that another tick is due. @next becomes earlier if that depends on the time.
 */
bool fleet_serve(struct fleet *f, int64_t now, int64_t *next);

/* Whether that has anything to do. */
static inline bool fleet_is_wanted(const struct fleet *f) {
        return !list_empty(&f->queue) || f->n_warm > 0;
}

/* The pools stop: nothing is due any more. */
void fleet_stop(struct fleet *f);
