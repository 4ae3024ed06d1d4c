/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The fleet: the environments of all pools of a mount. It has what these pools share.
 *
 * Each pool has a set of environments. The mount's own pool joins first: its backend takes back the environments of an
 * earlier run, whichever pool they belong to, and lists what the provider has; its set takes the orphans.
 *
 * The core owns the fleet, which outlives all pools.
 */

#include <stdint.h>

#include "pool/environment/environment.h"
#include "pool/environment/orphans.h"
#include "pool/util/clock.h"

struct fleet {
        struct environment *by_nonce; /* a hash over the environments of all sets */
        struct backend *backend;      /* the mount's own; borrowed */
        struct orphans orphans;
        bool stopping;
};

void fleet_init(struct fleet *f, struct backend *backend);
void fleet_deinit(struct fleet *f);

/* The set of a new pool. The first is that of the mount's own. */
void fleet_join(struct fleet *f, struct environments *set);

/* Do what is due. Returns when the next action is due, or USEC_NEVER. Call after each turn of the loop, before the pools. */
static inline int64_t fleet_tick(struct fleet *f, int64_t now) {
        return f->orphans.list_us > now ? f->orphans.list_us : f->stopping ? USEC_NEVER : orphans_tick(&f->orphans, now);
}

/* The pools stop: nothing is due any more. */
void fleet_stop(struct fleet *f);
