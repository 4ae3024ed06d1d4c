/* SPDX-License-Identifier: MIT */
#pragma once

/* What a core is made of. All of it is borrowed, and outlives the core. */

#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/base/config.h"
#include "pool/base/journal.h"

struct core_parts {
        /*
         * With BACKEND_TO_END there are no leases: core_restore() takes back environments only, for core_stop() to end.
         */
        enum backend_use use;
        struct config *config; /* of the mount; ctl changes it */
        struct backend *backend; /* of the mount's own pool */
        /*
         * Make the backend of a further pool, whose sandboxes begin as the snapshot of this name is; "": as the options say.
         * -errno with @why, as at the start. NULL: there are no further pools.
         */
        int (*open)(void *owner, const struct config *config, const char *snapshot, struct backend **out,
                    struct result *why);
        void *owner; /* open()'s */
        struct journal *journal; /* NULL keeps nothing */
        struct audit *audit;     /* NULL: there is none */
        int spool_dir;           /* descriptor of a directory that holds only what leases put there */
        int64_t (*clock)(void);  /* microseconds; it never goes back */
        uint64_t seed;           /* of all jitter: the same seed and the same events give the same pool */
};
