/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/liveness.h"

#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define HOLD_SECS 50.0f      /* how long one SandboxWait holds its answer back … */
#define HOLD_LEAST_SECS 2.0f /* … and when others wait for their turn */
#define HOLD_CAUSE_SECS 2.0f /* … and when it is known to have ended, which Modal may learn a while later */
#define AGAIN_MS 500

static void poll_next(struct modal_liveness_queue *q);

void modal_liveness_queue_init(struct modal_liveness_queue *q) {
        list_init(&q->waiting);
        q->n_polls = 0;
}

void modal_liveness_init(struct modal_liveness *l, struct modal_liveness_queue *queue, struct modal_control *control,
                         const struct modal_identity *identity, const struct modal_processes *processes,
                         void (*lost)(struct modal_liveness *l, const char *what)) {
        *l = (struct modal_liveness){
                .lost = lost,
                .queue = queue,
                .control = control,
                .identity = identity,
                .processes = processes,
        };
        list_init(&l->link);
        uv_timer_init(control->client->loop, &l->timer);
        uv_unref((uv_handle_t *)&l->timer);
        l->timer.data = l;
}

void modal_liveness_deinit(struct modal_liveness *l) {
        free(l->what);
}

void modal_liveness_start(struct modal_liveness *l) {
        if (l->ended)
                return;
        list_remove(&l->link);
        list_add_tail(&l->queue->waiting, &l->link);
        poll_next(l->queue);
}

static void on_timer(uv_timer_t *timer) {
        modal_liveness_start(timer->data);
}

static void start_later(struct modal_liveness *l, uint64_t ms) {
        uv_timer_start(&l->timer, on_timer, ms, 0);
}

/* No poll is under way any more. */
static void cancel_poll(struct modal_liveness *l) {
        struct modal_liveness *next;

        if (!l->call)
                return;
        modal_call_cancel(TAKE_PTR(l->call));
        l->queue->n_polls--;
        /* Its place is free; but that may be because all are ended now, so the next one has it in a while only. */
        next = list_first(&l->queue->waiting, struct modal_liveness, link);
        if (next)
                start_later(next, AGAIN_MS);
}

void modal_liveness_stop(struct modal_liveness *l) {
        uv_timer_stop(&l->timer);
        list_remove(&l->link);
        cancel_poll(l);
}

/* Say that it has ended, and why. */
static void tell(struct modal_liveness *l) {
        uv_timer_stop(&l->timer);
        if (l->status != MODAL_RESULT_NONE)
                modal_ends_add(&l->control->client->ends, modal_result_name(l->status), l->exit_code);
        l->lost(l, l->what ?: "");
}

static void set_what(struct modal_liveness *l, const char *what) {
        free(l->what);
        l->what = strdup(what);
}

static void take_result(struct modal_liveness *l, const struct modal_result *r) {
        char text[MODAL_RESULT_TEXT_MAX];

        modal_result_explain(r, text);
        set_what(l, text);
        l->status = r->status;
        l->exit_code = r->exit_code;
}

static int pack(void *owner, struct buf *out) {
        struct modal_liveness *l = owner;

        l->asked_us = clock_now();
        l->hold_secs = l->ended                        ? HOLD_CAUSE_SECS
                       : list_empty(&l->queue->waiting) ? HOLD_SECS
                                                        : HOLD_LEAST_SECS;
        return modal_pack_wait(out, l->identity->id, l->hold_secs);
}

static void take_answer(struct modal_liveness *l, const struct grpc_status *status, const void *reply, size_t len) {
        bool waited = clock_now() - l->asked_us >= l->hold_secs * (USEC_PER_SEC / 2), over;
        struct modal_result result;

        if (status->code == GRPC_OK && modal_read_wait(reply, len, &result) == 0 && result.status != MODAL_RESULT_NONE)
                take_result(l, &result);
        if (status->code == GRPC_NOT_FOUND && !l->what)
                set_what(l, status->message);
        over = status->code == GRPC_NOT_FOUND || l->status != MODAL_RESULT_NONE;
        if (over && (l->ended || list_empty(&l->processes->listened)))
                tell(l);
        else if (l->ended)
                ; /* the timer asks again */
        else if (over)
                start_later(l, AGAIN_MS); /* the processes find out by themselves, with what they still said */
        else if (status->code == GRPC_OK && waited)
                modal_liveness_start(l);
        else
                start_later(l, LIVENESS_RETRY_MS);
}

static void on_answer(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_liveness *l = owner;
        struct modal_liveness_queue *queue = l->queue;

        l->call = NULL;
        queue->n_polls--;
        take_answer(l, status, reply, len);
        poll_next(queue);
}

static int poll_now(struct modal_liveness *l) {
        return modal_control_call(l->control, l->identity, "SandboxWaitV2",
                                  &(struct modal_call_spec){
                                          .method = "SandboxWait",
                                          .group = HTTP_CALLS,
                                          .attempt_us = CALL_TIMEOUT_US + (int64_t)HOLD_SECS * USEC_PER_SEC,
                                          .tries = CALL_TRIES,
                                          .message_max = MODAL_MESSAGE_MAX,
                                          .pack = pack,
                                          .done = on_answer,
                                  },
                                  l, &l->call);
}

static void poll_next(struct modal_liveness_queue *q) {
        struct modal_liveness *l;

        while (q->n_polls < LIVENESS_POLLS_MAX && (l = list_first(&q->waiting, struct modal_liveness, link))) {
                list_remove(&l->link);
                uv_timer_stop(&l->timer);
                if (poll_now(l) == 0)
                        q->n_polls++;
                else
                        start_later(l, LIVENESS_RETRY_MS);
        }
}

/* it is known to have ended */

static void ask_for_cause(struct modal_liveness *l) {
        if (!l->call && poll_now(l) == 0)
                l->queue->n_polls++; /* maybe over the maximum: it is a short one */
}

static void on_cause_timer(uv_timer_t *timer) {
        struct modal_liveness *l = timer->data;

        if (clock_now() < l->give_up_us) {
                ask_for_cause(l);
                return;
        }
        cancel_poll(l);
        tell(l);
}

void modal_liveness_ended(struct modal_liveness *l, const char *what) {
        if (l->ended)
                return;
        l->ended = true;
        list_remove(&l->link);
        if (l->status != MODAL_RESULT_NONE) {
                tell(l);
                return;
        }
        set_what(l, what);
        l->give_up_us = clock_now() + CAUSE_WAIT_US;
        uv_timer_start(&l->timer, on_cause_timer, AGAIN_MS, AGAIN_MS);
        ask_for_cause(l); /* unless a poll is under way, which is answered now */
}
