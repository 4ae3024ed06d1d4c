/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What one sandbox is known by: to Modal, to its router, to people.
 *
 * It belongs to the sandbox. The create fills it in. All others read it, but for the end, which may find the ids of
 * sandboxes whose create was never answered.
 *
 * Modal has two kinds of sandboxes, V1 and V2, and each has calls of its own. The id tells the kind, as in Modal's own
 * clients: a V1 id is "sb-" and 22 letters and digits, and any other is a V2 id.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/modal/client.h"
#include "pool/util/buf.h"
#include "pool/util/uuid.h"

struct modal_identity {
        char nonce[UUID_SIZE];     /* the value of the tag that only this create has */
        char *id;                  /* SANDBOX_ID_MAX bytes, of its struct sandbox; "" until known */
        char *task_id;             /* what execs are addressed to; NULL until known */
        struct modal_secret token; /* goes with each call of the control plane about it; only V2 sandboxes have one */
        struct buf own;            /* what the probe said: which processes are the sandbox's own */
        int64_t began_us;          /* its lifetime counts from here at the earliest … */
        int64_t began_wall_us;     /* … the same moment … */
        uint32_t lifetime_secs;    /* … for so long */
};

/* Its id is known. */
bool modal_identity_is_v2(const struct modal_identity *i);

void modal_identity_deinit(struct modal_identity *i);
