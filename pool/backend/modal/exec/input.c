/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/exec/input.h"

#include <errno.h>

#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/cleanup.h"

void modal_input_init(struct modal_input *in, const struct modal_input_events *events, struct modal_endpoint *router,
                      const struct modal_identity *identity, const char *exec_id, const struct modal_stdin *source,
                      bool live) {
        *in = (struct modal_input){
                .events = events,
                .router = router,
                .identity = identity,
                .exec_id = exec_id,
                .open = source || live,
                .live = live,
                .source = source ? *source : (struct modal_stdin)MODAL_STDIN_INIT(0),
                .kept = BUF_INIT(EXEC_INPUT_MAX),
                .chunk = BUF_INIT(INPUT_CHUNK),
        };
}

void modal_input_deinit(struct modal_input *in) {
        if (in->call)
                modal_call_cancel(TAKE_PTR(in->call));
        in->open = false;
        modal_stdin_deinit(&in->source);
        buf_deinit(&in->kept);
        buf_deinit(&in->chunk);
}

/*
 * Not over the connections of the streams: those read nothing while output waits to be taken, and libcurl 7.88 loses the
 * end of an answer that comes among the output of another stream.
 */
static int ask(struct modal_input *in, const char *method, int (*pack)(void *owner, struct buf *out),
               void (*done)(void *owner, const struct grpc_status *, const void *, size_t)) {
        return modal_call_start(in->router,
                                &(struct modal_call_spec){
                                        .method = method,
                                        .group = HTTP_CALLS,
                                        .attempt_us = POLL_TIMEOUT_US,
                                        .retry_for_us = RUN_RETRY_US,
                                        .poll = true,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack,
                                        .done = done,
                                },
                                in, &in->call);
}

/* write */

static int write_next(struct modal_input *in);

/* There is nothing behind the chunk. */
static bool is_last_chunk(const struct modal_input *in) {
        return modal_stdin_is_over(&in->source) && (!in->live || (in->ended && in->kept.len == 0));
}

static int pack_write(void *owner, struct buf *out) {
        struct modal_input *in = owner;

        return modal_pack_exec_write(out, in->identity->task_id, in->exec_id, in->written, buf_text(&in->chunk),
                                     in->chunk.len, in->chunk_ends);
}

static void on_written(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_input *in = owner;
        int r;

        in->call = NULL;
        if (status->code == GRPC_FAILED_PRECONDITION || status->code == GRPC_NOT_FOUND) {
                modal_input_deinit(in); /* nobody reads any more, and the process's end tells why */
        } else if (status->code != GRPC_OK) {
                in->events->failed(in, status);
                return;
        } else if (in->chunk_ends || (!in->live && modal_stdin_is_over(&in->source))) {
                modal_input_deinit(in);
        } else {
                in->written += in->chunk.len;
                r = write_next(in);
                if (r < 0) {
                        in->events->unreadable(in, r);
                        return;
                }
        }
        if (in->live)
                in->events->room(in);
}

/* Live input behind what the chunk has of the known bytes. */
static int take_kept(struct modal_input *in) {
        size_t room = in->chunk.max - in->chunk.len, n = in->kept.len < room ? in->kept.len : room;
        int r = buf_append(&in->chunk, buf_text(&in->kept), n);

        if (r == 0 && n > 0)
                buf_drop(&in->kept, n);
        return r;
}

static int write_next(struct modal_input *in) {
        int r;

        buf_clear(&in->chunk);
        r = modal_stdin_read(&in->source, &in->chunk);
        if (r == 0 && modal_stdin_is_over(&in->source))
                r = take_kept(in);
        if (r < 0)
                return r;
        in->chunk_ends = (in->live || in->source.eof) && is_last_chunk(in);
        if (in->live && in->chunk.len == 0 && !in->chunk_ends)
                return 0; /* until more comes */
        return ask(in, "TaskExecStdinWrite", pack_write, on_written);
}

/* what an earlier run has written */

static int pack_status(void *owner, struct buf *out) {
        struct modal_input *in = owner;

        return modal_pack_exec(out, in->identity->task_id, in->exec_id);
}

/* When that cannot be known, all is written again: it counts from its offset. */
static void on_status(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_input *in = owner;
        uint64_t taken = 0;
        bool closed = false;
        int r;

        in->call = NULL;
        if (status->code == GRPC_OK)
                (void)modal_read_exec_input(reply, len, &taken, &closed);
        if (closed) {
                modal_input_deinit(in);
                return;
        }
        r = modal_stdin_skip(&in->source, taken);
        in->written = taken;
        if (r == 0)
                r = write_next(in);
        if (r < 0)
                in->events->unreadable(in, r);
}

int modal_input_start(struct modal_input *in, bool resumed) {
        if (!in->open)
                return 0;
        return resumed ? ask(in, "TaskExecStdinStatus", pack_status, on_status) : write_next(in);
}

int modal_input_go_on(struct modal_input *in) {
        return in->open && !in->call ? write_next(in) : 0;
}

/* live input */

ssize_t modal_input_write(struct modal_input *in, const void *data, size_t len) {
        size_t room = in->kept.max - in->kept.len, n = len < room ? len : room;

        if (!in->open)
                return -EPIPE;
        return buf_append(&in->kept, data, n) < 0 ? 0 : n;
}

void modal_input_end(struct modal_input *in) {
        in->ended = true;
}

bool modal_input_has_room(const struct modal_input *in) {
        return in->live && in->kept.len < in->kept.max;
}
