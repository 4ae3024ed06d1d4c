/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The router of one sandbox as an endpoint: the way to what runs there.
 *
 *   none → fetching → ready → fetching …    its URL and token come from the control plane, again and again;
 *   none → ready                            the first ones of a V2 sandbox with the answer to its create
 *
 * The token is renewed some time before its end, and when it is refused. When the router cannot be reached, or does not
 * know the task, it is asked for anew, since the sandbox may have been moved.
 *
 * Embedded in its sandbox.
 */

#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/rpc/control.h"
#include "pool/backend/modal/rpc/endpoint.h"

struct modal_router {
        struct modal_endpoint endpoint;
        struct modal_control *control;
        const struct modal_identity *identity; /* it has its task before the first call */
        char *url, *jwt;     /* NULL before the first access */
        int64_t renew_wall_us; /* when the token is to be renewed, USEC_NEVER: when it is refused */
        struct modal_call *fetching;
        void (*gone)(struct modal_router *router, const struct grpc_status *status); /* the task is no more */
};

void modal_router_init(struct modal_router *r, struct modal_control *control, const struct modal_identity *identity,
                       void (*gone)(struct modal_router *router, const struct grpc_status *status));

/*
 * The access that came with the answer to a create. The strings are the router's in any case. 0, or -EINVAL with @why for
 * what it does not take.
 */
int modal_router_take(struct modal_router *r, char *url, char *jwt, struct grpc_status *why);

/* No call may be left. */
void modal_router_deinit(struct modal_router *r);
