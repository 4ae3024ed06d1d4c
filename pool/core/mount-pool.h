/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One pool of a mount: its environments, its leases and its events. The mount itself is one; mkdir @NAME makes others.
 *
 *   open → ending → closed
 *
 *   open     it is in the tree; leases can be made in it
 *   ending   it was removed; its environments end
 *   closed   nothing is left but what an open file may still look at
 *
 * It belongs to the table of pools (pools.h). The file system reads its fields and calls what they lead to; only the
 * files of this folder write them.
 */

#include <jansson.h>
#include <sys/types.h>
#include <uthash.h>

#include "pool/backend/backend.h"
#include "pool/base/config.h"
#include "pool/base/event.h"
#include "pool/core/template.h"
#include "pool/environment/pool.h"
#include "pool/lease/table.h"
#include "pool/util/list.h"

struct pools;
struct snapshot;
struct journal_pool;

struct mount_pool {
        struct list link; /* in the table's list of those that are open, in order of making; or of those that end */
        UT_hash_handle hh_name, hh_serial; /* while open; not the mount's own */
        struct pools *all;
        unsigned refs;
        bool open;
        uint64_t serial; /* 0: the mount's own */
        char *name;      /* without the "@"; "": the mount's own */
        uid_t uid;
        gid_t gid;
        int64_t created_wall_us;
        int64_t config_wall_us; /* when an option last changed */
        struct config *config;  /* its own copy; of the mount's own pool the mount's, borrowed */
        json_t *options;        /* of these, those that were set for this pool: names to texts */
        bool made;              /* a create was sent: what environments are made of stays as it is */
        uint64_t hidden;        /* names of .pool that unlink took away, a bit for each, as the file system numbers them */
        unsigned generation;    /* of the directory .pool, which rmdir makes anew */
        struct template template; /* of the mount's own: ready, without a backend, since the daemon started that */
        struct snapshot *snapshot; /* its environments begin as this one is; NULL: as its options say */
        struct event_ring *ring;
        struct pool *pool;     /* NULL once closed */
        struct leases *leases; /* NULL once closed, and with BACKEND_TO_END */
};

/* The mount's own: with the mount's backend and configuration. 0 or -errno. */
int mount_pool_new_own(struct mount_pool **out, struct pools *all);

/* Another, by its row in the journal: with the mount's options, and its own over them. 0 or -errno. */
int mount_pool_new(struct mount_pool **out, struct pools *all, const struct journal_pool *row);

struct mount_pool *mount_pool_ref(struct mount_pool *p);
void mount_pool_unref(struct mount_pool *p);

/* Without leases and environments: free all that an open file does not look at. */
void mount_pool_close(struct mount_pool *p);

/*
 * Its environments begin as @s is, now or once that is ready. If it fails, leases of the pool fail with the reason. Once,
 * before there are leases. 0 or -ENOMEM. The second is to be called when @s is ready or has failed.
 */
int mount_pool_set_snapshot(struct mount_pool *p, struct snapshot *s);
void mount_pool_snapshot_settled(struct mount_pool *p);

/* How far it is with what its environments are made of, for people: the state of its snapshot, or of its template. */
const char *mount_pool_progress(const struct mount_pool *p);

/* Write its row to the journal. 0 or -errno. */
int mount_pool_write(struct mount_pool *p);

/* Do what is due @now. Returns when the next action is due, or USEC_NEVER. */
int64_t mount_pool_tick(struct mount_pool *p, int64_t now);
