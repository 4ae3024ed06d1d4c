/* SPDX-License-Identifier: MIT */

/*
 * May output and end of a process be asked for together with its start, in one round trip?
 *
 * Only of a router that holds such calls back until the process is there. What Modal's routers do is written nowhere,
 * so each is asked once, for the output of a process that nobody starts. One that holds the call back to its deadline
 * is one of them. From any other answer nothing follows but that starts come first: one that says at once that there
 * is no such process gains nothing, and one that says that its output is over must not be believed later.
 */

#include "pool/backend/modal/internal.h"
#include "pool/backend/modal/limits.h"
#include "pool/util/clock.h"

static int pack_riddle(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;
        char nobody[UUID_SIZE];
        int r = uuid_make(nobody);

        s->asked_us = clock_now();
        s->asked_generation = s->router.endpoint.generation;
        return r < 0 ? r : modal_pack_exec_read(out, s->task_id, nobody, 0, STREAM_STDOUT);
}

static int on_output(void *owner, const void *data, size_t len) {
        return 0; /* of nothing; the answer is what it ends with */
}

static void on_riddle(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        bool told = status->code == GRPC_DEADLINE_EXCEEDED && status->cause == HTTP_OK;

        s->riddle = NULL;
        s->holding_peer = s->router.endpoint.peer;
        /* Some servers end the stream at the deadline, instead of saying that it has passed. */
        s->holds = (told || status->cause == HTTP_RESET) && s->router.endpoint.generation == s->asked_generation &&
                          clock_now() - s->asked_us >= RIDDLE_US * 9 / 10;
}

void modal_riddle(struct modal_sandbox *s) {
        /* Without an answer starts come first, as ever. */
        (void)modal_call_start(&s->router.endpoint,
                               &(struct modal_call_spec){
                                       .method = "TaskExecStdioRead",
                                       .lane = HTTP_STREAMS,
                                       .attempt_us = RIDDLE_US,
                                       .poll = true,
                                       .once = true,
                                       .message_max = MODAL_MESSAGE_MAX,
                                       .pack = pack_riddle,
                                       .message = on_output,
                                       .done = on_riddle,
                               },
                               s, &s->riddle);
}
