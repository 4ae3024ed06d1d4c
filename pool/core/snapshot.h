/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Snapshots: `snapshot NAME` in a lease's ctl copies the file system of its environment and makes the pool @NAME, whose
 * environments begin as that copy.
 *
 *   taking → ready → deleting → gone
 *   taking → failed → deleting
 *
 *   taking     the provider was asked, or will be once the environment of an earlier run has answered
 *   ready      it is there, and the provider's name for it is known
 *   failed     there is none: leases of its pool fail with the reason
 *   deleting   its pool is gone: the provider was asked to delete it
 *
 * One whose pool is removed while it is being taken is taken to the end, since only then is its name known, and deleted.
 *
 * Its row is in the journal before the provider is asked, with the id that the provider is asked with. So after a crash:
 *
 *   taking, the environment lives      it is asked for again by its id: the provider has one, not two
 *   taking, the environment is gone    failed. What the provider may have of it ends by its own time limit, and the log says so
 *   any other, without a pool          deleted
 *
 * A snapshot belongs to the table, which belongs to the pools. Its pool has a pointer to it. There are POOLS_MAX at most.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/base/journal.h"
#include "pool/core/parts.h"
#include "pool/environment/snapshot.h"
#include "pool/util/list.h"
#include "pool/util/transition.h"
#include "pool/util/uuid.h"

enum snapshot_state {
        SNAPSHOT_TAKING,
        SNAPSHOT_READY,
        SNAPSHOT_FAILED,
        SNAPSHOT_DELETING,
        SNAPSHOT_N_STATES,
};
extern const struct transitions snapshot_transitions;

struct snapshot {
        struct list link; /* in the table */
        struct snapshots *all;
        enum snapshot_state state;
        char id[UUID_SIZE];
        char environment[UUID_SIZE]; /* the nonce of the one that it is taken of */
        uint64_t pool;               /* the serial of its pool; 0: that is gone */
        char *workdir; /* of leases in its pool */
        char image[SNAPSHOT_IMAGE_MAX]; /* the provider's name of it; "" until it is known */
        struct saved_result why;     /* it failed */
        struct environment_snapshot request; /* while taking */
        struct snapshot_deletion deletion;   /* while deleting */
};

struct snapshots {
        const struct core_parts *parts; /* borrowed */
        /* It is ready or has failed, and has a pool. */
        void (*settled)(void *owner, struct snapshot *s);
        void *owner;
        struct list list;
        unsigned n;
        bool keeps; /* the core stops, and leaves the journal to the next run */
};

void snapshots_init(struct snapshots *all, const struct core_parts *parts);
void snapshots_deinit(struct snapshots *all);

/*
 * Take one of this environment, for a pool of this serial, whose leases have this workdir. -EAGAIN: there are too many; and those of
 * environment_snapshot_start() and of the journal.
 */
int snapshots_take(struct snapshots *all, struct environment *e, const char *workdir, uint64_t pool,
                   struct snapshot **out);

/* Its pool is gone. */
void snapshot_drop(struct snapshot *s);

/*
 * Take back those in the journal, once the environments are. The caller then drops those without a pool. settled() is not
 * called.
 */
int snapshots_restore(struct snapshots *all, const struct fleet *fleet);

/* Whether nothing is under way. */
bool snapshots_are_settled(const struct snapshots *all);

/* Write all to the journal. 0 or -errno. */
int snapshots_write(const struct snapshots *all);

const char *snapshot_state_name(enum snapshot_state state);
