/* SPDX-License-Identifier: MIT */
#pragma once

/* What the file system stands on: made by main, borrowed by everything in fs/. */

#include <stdint.h>
#include <sys/types.h>

#include "fs/request.h"
#include "pool/base/config.h"
#include "pool/base/event.h"
#include "pool/base/lag.h"
#include "pool/lease/lease.h"
#include "pool/environment/pool.h"
#include "pool/util/list.h"

struct fs {
        struct config *config;
        struct pool *pool;
        struct leases *leases;
        struct event_ring *events;
        int spool_dir; /* descriptor: where written bytes may go */
        uid_t uid; /* who mounted it */
        gid_t gid;
        const struct lag *lag;
        int64_t (*clock)(void);
        int64_t started_wall_us;
        int64_t config_wall_us; /* when an option last changed */
        struct requests requests; /* those that wait */
        bool greeted; /* the kernel sent INIT, so the mount answers */
        struct list handles; /* open files */
};
