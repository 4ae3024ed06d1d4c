/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The pools of a mount, and what they share: the fleet and the registry of leases. The mount's own pool is the first.
 *
 * The table belongs to the core, which lets it tick and stops it.
 */

#include "pool/core/mount-pool.h"
#include "pool/core/parts.h"
#include "pool/environment/fleet.h"
#include "pool/lease/registry.h"

struct pools {
        const struct core_parts *parts; /* borrowed */
        struct fleet fleet;
        struct lease_registry registry;
        struct list list;        /* in order of making */
        struct mount_pool *own;  /* the mount's own, the first */
        bool keeps;              /* it has stopped, and leaves the journal to the next run */
};

/* 0 or -errno; deinit it in both cases. */
int pools_init(struct pools *all, const struct core_parts *parts);

/* No environment may be left. */
void pools_deinit(struct pools *all);

/* Take back the environments and leases in the journal. 0 or -errno. */
int pools_restore(struct pools *all);

/* Do what is due. Returns when the next action is due, or USEC_NEVER. */
int64_t pools_tick(struct pools *all);

/* Release every lease and end every environment; or, with @keep, leave both for the next run. */
void pools_stop(struct pools *all, bool keep);
