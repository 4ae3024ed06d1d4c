/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One pool of a mount: its environments, its leases and its events. The mount itself is one.
 *
 * It belongs to the table of pools (pools.h). The file system reads its fields and calls what they lead to; only the
 * files of this folder write them.
 */

#include "pool/backend/backend.h"
#include "pool/base/config.h"
#include "pool/base/event.h"
#include "pool/environment/pool.h"
#include "pool/lease/table.h"
#include "pool/util/list.h"

struct pools;

struct mount_pool {
        struct list link; /* in the table's, in order of making */
        struct pools *all;
        const struct config *config; /* borrowed */
        struct event_ring *ring;
        struct pool *pool;
        struct leases *leases; /* NULL with BACKEND_TO_END */
};

/* The mount's own: with the mount's backend and configuration. In the table. 0 or -errno. */
int mount_pool_new(struct mount_pool **out, struct pools *all);

/* Without leases and environments. Out of the table. NULL is allowed. */
void mount_pool_free(struct mount_pool *p);
