/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/terminate.h"

#include <stdio.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define ANSWER_WAIT_MS 3000 /* for the answer to a create, before its sandbox is looked for … */
#define FIND_AGAIN_MS 1000  /* … now and then */
#define TRY_US (CALL_TIMEOUT_US / 3)

static void end(struct modal_terminate *t);

/* The first failure is the one that is told. */
static void note_failure(struct modal_terminate *t, const struct result *r) {
        if (t->failure.code == RESULT_OK)
                result_save(&t->failure, r);
}

static void finish(struct modal_terminate *t) {
        struct result r = result_saved(&t->failure);

        modal_listing_cancel(&t->listing);
        uv_timer_stop(&t->timer);
        t->events->done(t, &r);
}

static int64_t time_left(const struct modal_terminate *t) {
        int64_t left = t->end_by_us - clock_now();

        return left > 0 ? left : 1;
}

/* terminate */

static void terminate_next(struct modal_terminate *t);

static int pack_terminate(void *owner, struct buf *out) {
        struct modal_terminate *t = owner;

        return modal_pack_terminate(out, t->identity->id);
}

static void on_terminated(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_terminate *t = owner;
        struct result r;

        t->call = NULL;
        if (status->code != GRPC_OK && status->code != GRPC_NOT_FOUND) {
                modal_client_explain(t->template->control->client, &r, status,
                                     "environment %s: not terminated (it ends by itself within %u s)", t->identity->id,
                                     t->identity->lifetime_secs);
                note_failure(t, &r);
        }
        terminate_next(t);
}

static void terminate(struct modal_terminate *t) {
        struct result r;
        int n = modal_control_call(t->template->control, t->identity, "SandboxTerminateV2",
                                   &(struct modal_call_spec){
                                           .method = "SandboxTerminate",
                                           .group = HTTP_CALLS,
                                           .attempt_us = TRY_US,
                                           .retry_for_us = time_left(t),
                                           .message_max = MODAL_MESSAGE_MAX,
                                           .pack = pack_terminate,
                                           .done = on_terminated,
                                   },
                                   t, &t->call);

        if (n < 0) {
                result_set(&r, RESULT_FAILED, "environment %s: not terminated: %s", t->identity->id, strerror(-n));
                note_failure(t, &r);
                finish(t);
        }
}

/* Those that were found, one after the other. */
static void terminate_next(struct modal_terminate *t) {
        const char *id = t->found.data + t->found_at;

        if (t->found_at == t->found.len) {
                finish(t);
                return;
        }
        t->found_at += strlen(id) + 1;
        snprintf(t->identity->id, SANDBOX_ID_MAX, "%s", id);
        terminate(t);
}

/* find */

static int take_found(void *owner, const struct modal_info *info) {
        struct modal_terminate *t = owner;

        return buf_append(&t->found, info->id, strlen(info->id) + 1);
}

static void on_timer(uv_timer_t *timer) {
        end(timer->data);
}

static void on_found(void *owner, const struct grpc_status *status) {
        struct modal_terminate *t = owner;
        struct result r = {};

        if (t->pending && t->found.len == 0 && status->code == GRPC_OK && clock_now() < t->end_by_us) {
                uv_timer_start(&t->timer, on_timer, FIND_AGAIN_MS, 0);
                return;
        }
        if (status->code != GRPC_OK)
                modal_client_explain(t->template->control->client, &r, status,
                                     "looking for a sandbox that may have been made (it ends by itself within %u s)",
                                     t->identity->lifetime_secs);
        else if (t->pending && t->found.len == 0)
                result_set(&r, RESULT_FAILED,
                           "Modal did not answer in time; a sandbox that it made ends by itself within %u s",
                           t->identity->lifetime_secs);
        note_failure(t, &r);
        t->pending = false;
        t->events->settled(t);
        terminate_next(t);
}

static void find(struct modal_terminate *t) {
        struct result r;
        int n = modal_listing_start(&t->listing, t->template->control,
                                    &(struct modal_listing_spec){
                                            .app_id = t->template->app_id,
                                            .tag = { MODAL_TAG_CREATE, t->identity->nonce },
                                            .want = MODAL_TAG_CREATE,
                                            .attempt_us = TRY_US,
                                            .retry_for_us = time_left(t),
                                            .take = take_found,
                                            .done = on_found,
                                    },
                                    t);

        if (n < 0) {
                result_set(&r, RESULT_FAILED, "looking for a sandbox that may have been made: %s", strerror(-n));
                note_failure(t, &r);
                finish(t);
        }
}

static void end(struct modal_terminate *t) {
        if (*t->identity->id)
                terminate(t);
        else if (t->pending || t->unsure)
                find(t);
        else
                finish(t);
}

void modal_terminate_init(struct modal_terminate *t, const struct modal_terminate_events *events,
                          const struct modal_template *template, struct modal_identity *identity) {
        *t = (struct modal_terminate){
                .events = events,
                .template = template,
                .identity = identity,
                .found = BUF_INIT(FOUND_SIZE_MAX),
        };
        uv_timer_init(template->control->client->loop, &t->timer);
        uv_unref((uv_handle_t *)&t->timer);
        t->timer.data = t;
}

void modal_terminate_deinit(struct modal_terminate *t) {
        buf_deinit(&t->found);
        result_drop(&t->failure);
}

void modal_terminate_start(struct modal_terminate *t, bool pending, bool unsure) {
        t->pending = pending;
        t->unsure = unsure;
        t->end_by_us = clock_now() + DESTROY_RETRY_US;
        uv_timer_start(&t->timer, on_timer, pending ? ANSWER_WAIT_MS : 0, 0);
}

void modal_terminate_answered(struct modal_terminate *t, bool unsure) {
        t->pending = false;
        t->unsure = unsure;
        modal_listing_cancel(&t->listing);
        uv_timer_stop(&t->timer);
        end(t);
}
