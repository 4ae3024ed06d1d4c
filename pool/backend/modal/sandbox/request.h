/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The request for a sandbox.
 *
 *   idle → V2 → answered    SandboxCreateV2: its answer has all that is needed to run something
 *   idle → V1 → answered    SandboxCreate: its answer has the id, and the task is asked for later
 *          V2 → V1          when the server has no V2 sandboxes, or refuses this one
 *
 * With sandbox=auto, V2 is tried first, unless the sandbox has a GPU, which only V1 has. A refusal of V2 may have a reason
 * that V1 shares or one that it does not: V1 is tried, once, and if that succeeds the pool's sandboxes are V1 from then on.
 *
 * Its tags travel with it, one of them this request's alone, so that a sandbox whose request was not answered can be
 * found and terminated.
 *
 * Embedded in the create.
 */

#include <stdbool.h>

#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/rpc/router.h"
#include "pool/backend/modal/template.h"

struct modal_request {
        /* The event: OK, and the identity has the id; of a V2 sandbox also the task and the token, and the router its access. */
        void (*answered)(struct modal_request *q, const struct grpc_status *status);
        struct modal_template *template;
        struct modal_identity *identity;
        struct modal_router *router;
        struct modal_call *call; /* NULL: none is under way */
        bool v2;                 /* it is SandboxCreateV2 */
        bool withdrawn;          /* nobody wants the sandbox any more */
        bool unsure;             /* it failed, and may have made one all the same */
        struct grpc_status refusal; /* by V2, while V1 is tried; GRPC_OK: there was none */
};

void modal_request_init(struct modal_request *q, struct modal_template *template, struct modal_identity *identity,
                        struct modal_router *router,
                        void (*answered)(struct modal_request *q, const struct grpc_status *status));

/* 0 or -errno; then answered() comes once, unless it is cancelled. */
int modal_request_start(struct modal_request *q);

/* The sandbox will be terminated. But a request cannot be taken back: answered() comes all the same. */
void modal_request_withdraw(struct modal_request *q);

/* Nobody waits for the answer any more. */
void modal_request_cancel(struct modal_request *q);
