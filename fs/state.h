/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The state directory of one mount: a lock, the spool, files of local
 * environments. Nobody but its owner can look into it.
 *
 *   STATE/MOUNTPOINT/lock
 *                    spool/          jobs' output
 *                    environments/   of isolate=none
 */

#include "pool/config.h"
#include "pool/util/result.h"

struct state {
        char *path;         /* STATE/MOUNTPOINT */
        char *environments; /* STATE/MOUNTPOINT/environments */
        int lock;
        int spool; /* descriptor of the directory */
};

/* Make and lock it, and empty what an earlier run left. -errno with @why filled in; -EBUSY when somebody holds it. */
int state_open(struct state *s, const struct config *config, const char *mountpoint, struct result *why);

/* Remove it again. */
void state_close(struct state *s);
