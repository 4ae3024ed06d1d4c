/* SPDX-License-Identifier: MIT */
#pragma once

/* How pools and snapshots (snapshot.h) belong together. For the files of this folder. */

#include "pool/core/pools.h"

void pools_init_snapshots(struct pools *all);

/* As lease_registry.snapshot; @owner is the struct pools. */
int pools_take_snapshot(void *owner, const struct lease_snapshot *what);

/* After pools and environments were restored, before leases are. 0 or -errno. */
int pools_restore_snapshots(struct pools *all);

/* No environment of the pool is left that begins as its snapshot is, or the mount stops. Nothing if it has none. */
void mount_pool_drop_snapshot(struct mount_pool *p);
