/* SPDX-License-Identifier: MIT */
#pragma once

/* What the file system works on. main makes it; everything in fs/ borrows it. */

#include <stdint.h>
#include <sys/types.h>

#include "fs/request.h"
#include "pool/base/config.h"
#include "pool/base/lag.h"
#include "pool/core/pools.h"
#include "pool/lease/table.h"
#include "pool/util/list.h"

struct fs {
        struct config *config;
        const char *provider; /* the name of what provides sandboxes, for the table of mounts */
        struct pools *pools;
        struct leases *leases; /* of the mount's own pool */
        int spool_dir; /* descriptor of the directory for written bytes */
        uid_t uid; /* of the daemon */
        gid_t gid;
        const struct lag *lag;
        bool audits; /* who submits a job has to be known */
        int64_t (*clock)(void);
        int64_t started_wall_us;
        struct requests requests; /* waiting ones */
        uint64_t writes_waiting;  /* bytes that the WRITEs among them keep */
        bool greeted; /* the kernel has sent INIT, so the mount answers */
        struct list handles; /* open files */
        struct fuse_session *fuse;   /* while it is mounted; to tell the kernel what it may not believe any more */
        struct remote_tree *trees;   /* of leases whose root/ is used: a hash by serial, and all of them; see fs/remote/tree.h */
        struct list all_trees;
};
