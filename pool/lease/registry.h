/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the leases of all pools of a mount share: the numbers that name them, what they keep on disk, and the journal.
 *
 * Each pool has a table of its leases, by name. The core owns the registry, which outlives all tables.
 *
 * Serials are never used twice in one mount. Pools have serials too, of the same numbers, because node numbers of the
 * mount name either by its serial.
 */

#include <stdint.h>
#include <sys/types.h>

#include "pool/base/config.h"
#include "pool/base/journal.h"
#include "pool/util/quota.h"

struct audit;
struct environment;
struct lease;

/* What `snapshot` in a lease's ctl asks for. Borrowed for the call. */
struct lease_snapshot {
        const char *name; /* of the pool to be made, without the "@" */
        const char *lease, *workdir;
        uint64_t pool; /* the serial of the lease's */
        uid_t uid;
        gid_t gid;
        struct environment *environment;
};

struct lease_registry {
        const struct config *config; /* the mount's; borrowed, as is what follows */
        struct journal *journal;     /* or NULL */
        struct audit *audit;         /* or NULL */
        int spool_dir;
        int64_t (*clock)(void);
        /* Everything is written to the journal again, after some writes failed. 0 or -errno. */
        int (*rewrite)(void *owner);
        /*
         * Take a snapshot, and make a pool of it. 0 or -errno: as for a new pool; -EBUSY if one of this environment is under
         * way, -EOPNOTSUPP if it cannot be copied, -ENODEV if it does not live.
         */
        int (*snapshot)(void *owner, const struct lease_snapshot *what);
        void *owner;

        uint64_t instance;       /* random: of the exec ids of leases made in this run */
        uint64_t last_serial;
        struct lease *by_serial; /* a hash over the leases of all tables */
        struct quota *quota;     /* of the files in spool_dir */
};

/* The borrowed fields are set. 0 or -errno. */
int lease_registry_init(struct lease_registry *r);
void lease_registry_deinit(struct lease_registry *r);

/* Of an earlier run: later ones are higher. */
void lease_registry_note_serial(struct lease_registry *r, uint64_t serial);

/* Leases of all tables. */
unsigned lease_registry_count(const struct lease_registry *r);
