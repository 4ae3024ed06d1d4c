/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A snapshot of a sandbox's file system, taken by its router, which becomes an image.
 *
 *   idle → taking → idle    done() comes once, unless cancelled
 *
 * The router makes one image for one snapshot id, however often it is asked: so a try whose answer was lost is repeated,
 * also by a later run. The image ends by its own time limit. Embedded in its sandbox.
 */

#include "pool/backend/backend.h"
#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/util/uuid.h"

struct modal_snapshot {
        const struct modal_identity *identity; /* borrowed; it has its task */
        struct modal_endpoint *router;
        struct modal_call *call;
        char id[UUID_SIZE];
        int64_t ttl_secs;
        void (*done)(struct modal_snapshot *s, const struct result *r, const char *image);
};

/* @identity and @done are set by the caller. 0 or -errno. */
int modal_snapshot_start(struct modal_snapshot *s, struct modal_endpoint *router, const char *id, int64_t ttl_secs);
void modal_snapshot_cancel(struct modal_snapshot *s);
