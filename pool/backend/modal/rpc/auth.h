/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The endpoint of calls for V2 sandboxes: the control plane, with the header x-modal-auth-token in each call.
 *
 *   none → fetching → ready → fetching …    the token comes from the control plane, by AuthTokenGet
 *
 * The token is renewed when a call comes after half of its life, and when it is refused. One that could not be renewed
 * is used for as long as it holds.
 *
 * Embedded in struct modal_control: all pools of a client share it.
 */

#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/rpc/endpoint.h"

struct modal_auth {
        struct modal_endpoint endpoint;
        struct modal_endpoint_ops ops; /* those of the plain endpoint, and the token */
        struct modal_endpoint *plain;  /* the control plane without the token */
        struct modal_secret token;     /* a JWT; none before the first, and once it was refused */
        int64_t renew_wall_us;         /* when it is to be renewed … */
        int64_t expires_wall_us;       /* … and when it ends; USEC_NEVER: when it is refused */
        struct modal_call *fetching;
};

void modal_auth_init(struct modal_auth *a, struct modal_endpoint *plain);
/* No call over it may be left. */
void modal_auth_deinit(struct modal_auth *a);
