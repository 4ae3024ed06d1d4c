/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Modal's control plane, as two endpoints: with the token of the account in each call, and, for V2 sandboxes, with a
 * token beside it that is fetched.
 *
 * One beside each client, whose server it is. Servers that do not know V2 sandboxes say so to the first call for them.
 */

#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/rpc/auth.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/rpc/endpoint.h"

struct modal_control {
        struct modal_client *client;
        struct modal_endpoint endpoint; /* for V1 sandboxes, and all that is no sandbox */
        struct modal_auth auth;         /* for V2 sandboxes, and for lists of both kinds */
        bool no_v2;                     /* the server does not know these calls */
};

/* @client has its credentials, and outlives it. */
void modal_control_init(struct modal_control *c, struct modal_client *client);
/* No call may be left. Of zeros is fine. */
void modal_control_deinit(struct modal_control *c);

/*
 * As modal_call_start(), for a call about one sandbox. @spec has its name for V1 sandboxes; for a V2 sandbox it is called
 * @method_v2, and the token of the sandbox goes with it.
 */
int modal_control_call(struct modal_control *c, const struct modal_identity *sandbox, const char *method_v2,
                       const struct modal_call_spec *spec, void *owner, struct modal_call **out);

/* A call for V2 sandboxes was UNIMPLEMENTED. */
void modal_control_has_no_v2(struct modal_control *c);
