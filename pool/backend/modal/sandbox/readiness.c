/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/readiness.h"

#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/cleanup.h"

#define READY_WAIT_SECS 20.0f /* how long one SandboxWaitUntilReady holds its answer back */

static int pack(void *owner, struct buf *out) {
        struct modal_readiness *r = owner;

        return modal_pack_ready(out, r->identity->task_id, READY_WAIT_SECS);
}

static void on_ready(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_readiness *r = owner;

        r->call = NULL;
        if (status->code == GRPC_OK && modal_read_ready(reply, len) < 0)
                status = MODAL_UNREADABLE("SandboxWaitUntilReady");
        r->done(r, status);
}

int modal_readiness_start(struct modal_readiness *r, struct modal_endpoint *router, const struct modal_identity *identity,
                          int64_t retry_for_us,
                          void (*done)(struct modal_readiness *r, const struct grpc_status *status)) {
        r->identity = identity;
        r->done = done;
        return modal_call_start(router,
                                &(struct modal_call_spec){
                                        .method = "SandboxWaitUntilReady",
                                        .group = HTTP_CALLS,
                                        .attempt_us = POLL_TIMEOUT_US,
                                        .retry_for_us = retry_for_us,
                                        .poll = true,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack,
                                        .done = on_ready,
                                },
                                r, &r->call);
}

void modal_readiness_cancel(struct modal_readiness *r) {
        if (r->call)
                modal_call_cancel(TAKE_PTR(r->call));
}
