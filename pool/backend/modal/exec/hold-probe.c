/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/exec/hold-probe.h"

#include "pool/backend/backend.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/uuid.h"

static int pack(void *owner, struct buf *out) {
        struct modal_hold_probe *h = owner;
        char nobody[UUID_SIZE];
        int r = uuid_make(nobody);

        h->asked_us = clock_now();
        h->asked_generation = h->router->generation;
        return r < 0 ? r : modal_pack_exec_read(out, h->task_id, nobody, 0, STREAM_STDOUT);
}

static int on_output(void *owner, const void *data, size_t len) {
        return 0; /* of nothing; the answer is what it ends with */
}

static void on_done(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_hold_probe *h = owner;
        bool told = status->code == GRPC_DEADLINE_EXCEEDED && status->cause == HTTP_OK;

        h->call = NULL;
        h->peer = h->router->peer;
        /* Some servers end the stream at the deadline, instead of saying that it has passed. */
        h->holds = (told || status->cause == HTTP_RESET) && h->router->generation == h->asked_generation &&
                   clock_now() - h->asked_us >= HOLD_PROBE_US * 9 / 10;
}

void modal_hold_probe_start(struct modal_hold_probe *h, struct modal_endpoint *router, const char *task_id) {
        h->router = router;
        h->task_id = task_id;
        (void)modal_call_start(router,
                               &(struct modal_call_spec){
                                       .method = "TaskExecStdioRead",
                                       .group = HTTP_STREAMS,
                                       .attempt_us = HOLD_PROBE_US,
                                       .poll = true,
                                       .once = true,
                                       .message_max = MODAL_MESSAGE_MAX,
                                       .pack = pack,
                                       .message = on_output,
                                       .done = on_done,
                               },
                               h, &h->call);
}

void modal_hold_probe_cancel(struct modal_hold_probe *h) {
        if (h->call)
                modal_call_cancel(TAKE_PTR(h->call));
}

bool modal_hold_probe_holds(const struct modal_hold_probe *h) {
        return h->holds && h->peer == h->router->peer;
}
