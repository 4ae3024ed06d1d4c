/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Orphans: sandboxes of this mount that the provider lists and the fleet does
 * not know.
 *
 * The provider is asked for a list now and then. Listed sandboxes that the
 * fleet does not know are terminated, except:
 *
 *   - a sandbox that is younger than ORPHAN_GRACE_US and that this run may
 *     have made, because its create may still be under way
 *   - a sandbox that ended less than ORPHAN_GRACE_US ago, because the list may
 *     be older
 *   - a sandbox whose tag was not made by a pool
 *
 * Embedded in the fleet. It remembers at most TERMINATED_MAX ended sandboxes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/environment/environment.h"

struct orphans {
        struct environments *environments; /* which takes them; borrowed */
        struct terminated *terminated;     /* a hash by nonce, the oldest first */
        int64_t list_us;                   /* when to ask for a list, or USEC_NEVER */
        int64_t interval_us;               /* how long after that to ask again */
        int64_t started_wall_us;           /* when this run began to make sandboxes */
        unsigned n_strange, n_orphans;     /* in the list that is under way: not made by a pool; orphans */
};

/* Nothing is listed before orphans_start(). */
void orphans_init(struct orphans *o, struct environments *environments);
void orphans_deinit(struct orphans *o);

/* The environments of earlier runs are in the set: lists may be asked for from now on. */
void orphans_start(struct orphans *o);

/* The environment of this nonce has ended: it is no orphan if a list still names it. */
void orphans_note_terminated(struct orphans *o, const char *nonce);

/* Ask for a list when it is due. The time of the next one, or USEC_NEVER. */
int64_t orphans_tick(struct orphans *o, int64_t now_us);

/* The backend's answers. True: the sandbox is an orphan, and is being terminated. */
bool orphans_found(struct orphans *o, const struct sandbox_found *found);
void orphans_listed(struct orphans *o, const struct result *r);
