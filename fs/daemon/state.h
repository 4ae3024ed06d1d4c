/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The state directory of one mount. Only its owner can read it, and only its
 * owner or root can have put it there (pool/util/trust.h).
 *
 *   STATE/MOUNTPOINT/lock
 *                    pool            the pool's id (fs/daemon/pool-id.h)
 *                    journal         see pool/base/journal.h
 *                    spool/          output of jobs, long commands and inputs
 *                    environments/   of isolate=none
 *                    snapshots/      of the local backend
 */

#include "pool/base/config.h"
#include "pool/base/journal.h"
#include "pool/util/result.h"
#include "pool/util/uuid.h"

struct state {
        char *path;         /* STATE/MOUNTPOINT, without links */
        char *environments; /* STATE/MOUNTPOINT/environments */
        char *snapshots;    /* STATE/MOUNTPOINT/snapshots */
        char pool_id[UUID_SIZE];
        uint64_t epoch;     /* of this run, once the journal is open */
        char *journal;      /* STATE/MOUNTPOINT/journal */
        int lock;
        int spool; /* descriptor of the directory */
};

/*
 * Make and lock it. -errno with @why filled in; -EWOULDBLOCK if another process holds the lock. If it is a copy of
 * another pool's directory, it becomes a new pool with @renew; else -EXDEV.
 */
int state_open(struct state *s, const struct config *config, const char *mountpoint, bool renew, struct result *why);

/* Open the journal in it, and begin a new epoch. -errno with @why filled in. */
int state_open_journal(struct state *s, const char *provider, struct journal **out, struct result *why);

/* Close it, and remove it unless @keep. */
void state_close(struct state *s, bool keep);
