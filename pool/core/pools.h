/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The pools of a mount, and what they share: the fleet, the registry of leases and the starts of templates. The mount's
 * own pool is the first.
 *
 * The table belongs to the core, which lets it tick and stops it. The file system makes, finds and removes pools. There
 * are POOLS_MAX at most beside the mount's own.
 */

#include "pool/core/mount-pool.h"
#include "pool/core/parts.h"
#include "pool/core/snapshot.h"
#include "pool/core/template.h"
#include "pool/environment/fleet.h"
#include "pool/lease/registry.h"

struct pools {
        const struct core_parts *parts; /* borrowed */
        struct fleet fleet;
        struct lease_registry registry;
        struct templates templates;
        struct snapshots snapshots;
        struct list list;       /* that are open, in order of making */
        struct list ending;
        struct mount_pool *own; /* the mount's own, the first */
        struct mount_pool *by_name, *by_serial; /* hashes over the others */
        int64_t changed_wall_us; /* when a pool came or went */
        bool stopping;
        bool keeps; /* it has stopped, and leaves the journal to the next run */
};

/* 0 or -errno; deinit it in both cases. */
int pools_init(struct pools *all, const struct core_parts *parts);

/* No environment may be left. */
void pools_deinit(struct pools *all);

/* Take back the pools, environments and leases in the journal. 0 or -errno. */
int pools_restore(struct pools *all);

/* Do what is due. Returns when the next action is due, or USEC_NEVER. */
int64_t pools_tick(struct pools *all);

/* Release every lease and end every environment and pool; or, with @keep, leave them for the next run. */
void pools_stop(struct pools *all, bool keep);

/* Whether no environment is left, and no request about a snapshot. */
bool pools_are_empty(const struct pools *all);

/*
 * Make a pool beside the mount's own. @name comes without the "@". The table holds it; *out is borrowed. -EEXIST, -EINVAL
 * or -ENAMETOOLONG for the name, -EAGAIN when the mount drains or has too many, -ENOMEM, -ENOSPC or another error of the
 * journal's disk.
 */
int pools_make(struct pools *all, const char *name, uid_t uid, gid_t gid, struct mount_pool **out);

/* Remove it from the tree and end its environments. -ENOTEMPTY if it has leases. */
int pools_remove(struct mount_pool *p);

/* Pools beside the mount's own. */
unsigned pools_count(const struct pools *all);

struct mount_pool *pools_find(const struct pools *all, const char *name);

/* 0 gives the mount's own. NULL: there is none. */
struct mount_pool *pools_find_serial(const struct pools *all, uint64_t serial);

/* The first pool with a serial above @serial, in order of making; NULL at the end. */
struct mount_pool *pools_after(const struct pools *all, uint64_t serial);
