/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The wait for a sandbox's readiness probe, which option ready= asks Modal to run there.
 *
 *   idle → waiting → idle    done() comes once, unless cancelled
 *
 * The router holds its answer back until the probe has succeeded, and is asked again and again. Whoever waits sets the
 * limit of time. Embedded in the create.
 */

#include <stdint.h>

#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/rpc/endpoint.h"

struct modal_readiness {
        const struct modal_identity *identity; /* borrowed; it has its task */
        struct modal_call *call;
        void (*done)(struct modal_readiness *r, const struct grpc_status *status);
};

/* @retry_for_us: for a router that does not answer. 0 or -errno; then done() comes. */
int modal_readiness_start(struct modal_readiness *r, struct modal_endpoint *router, const struct modal_identity *identity,
                          int64_t retry_for_us,
                          void (*done)(struct modal_readiness *r, const struct grpc_status *status));
void modal_readiness_cancel(struct modal_readiness *r);
