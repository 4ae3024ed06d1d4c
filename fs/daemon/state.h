/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The state directory of one mount: a lock, the spool, files of local
 * environments. Nobody but its owner can look into it, and nobody but root
 * can have put it there (pool/util/trust.h).
 *
 *   STATE/MOUNTPOINT/lock
 *                    pool            the pool's id (fs/daemon/pool-id.h)
 *                    journal         the books (pool/base/journal.h)
 *                    spool/          jobs' output, long commands and inputs
 *                    environments/   of isolate=none
 */

#include "pool/base/config.h"
#include "pool/base/journal.h"
#include "pool/util/result.h"
#include "pool/util/uuid.h"

struct state {
        char *path;         /* STATE/MOUNTPOINT, without links */
        char *environments; /* STATE/MOUNTPOINT/environments */
        char pool_id[UUID_SIZE];
        char *journal;      /* STATE/MOUNTPOINT/journal */
        int lock;
        int spool; /* descriptor of the directory */
};

/*
 * Make and lock it. -errno with @why filled in; -EWOULDBLOCK when somebody holds it. A copy of another pool's begins
 * anew where @renew is set, else -EXDEV.
 */
int state_open(struct state *s, const struct config *config, const char *mountpoint, bool renew, struct result *why);

/* Open the journal in it. -errno with @why filled in. */
int state_open_journal(const struct state *s, const struct config *config, struct journal **out, struct result *why);

/* Remove it again, unless it is to be kept for a later run. */
void state_close(struct state *s, bool keep);
