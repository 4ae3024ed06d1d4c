/* SPDX-License-Identifier: MIT */

/*
 * A sandbox's end: terminate, or leave.
 *
 * One whose birth was not answered is looked for by the tag that only its create has, and whatever is found is
 * terminated, for a create that was sent twice may have made two. A create that is still under way is waited for and
 * looked for at once, as long as stop_timeout lets us.
 */

#include <stdio.h>
#include <string.h>

#include "pool/backend/modal/internal.h"
#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define BIRTH_WAIT_MS 3000 /* for the answer to a create, before it is looked for … */
#define FIND_AGAIN_MS 1000 /* … now and then */
#define TRY_US (CALL_TIMEOUT_US / 3)

static void end(struct modal_sandbox *s);

/* The first failure is the one that is told. */
static void note_failure(struct modal_sandbox *s, const struct result *r) {
        if (result_ok(&s->ended))
                s->ended = *r;
}

static void finish(struct modal_sandbox *s) {
        s->step = MODAL_STEP_ENDED;
        if (s->call)
                modal_call_cancel(TAKE_PTR(s->call));
        modal_listing_cancel(&s->listing);
        modal_router_deinit(&s->router);
        sandbox_destroyed(&s->sandbox, &s->ended);
        modal_sandbox_close(s);
}

static int64_t time_left(const struct modal_sandbox *s) {
        int64_t left = s->end_by_us - clock_now();

        return left > 0 ? left : 1;
}

/* terminate */

static void terminate_next(struct modal_sandbox *s);

static int pack_terminate(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;

        return modal_pack_terminate(out, s->sandbox.id);
}

static void on_terminated(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        struct result r;

        s->call = NULL;
        if (status->code != GRPC_OK && status->code != GRPC_NOT_FOUND) {
                modal_client_explain(&modal_sandbox_modal(s)->client, &r, status,
                              "environment %s: not terminated (it ends by itself within %u s)", s->sandbox.id,
                              s->lifetime_secs);
                note_failure(s, &r);
        }
        terminate_next(s);
}

static void terminate(struct modal_sandbox *s) {
        struct result r;
        int n;

        s->step = MODAL_STEP_TERMINATE;
        n = modal_call_start(&modal_sandbox_modal(s)->control,
                             &(struct modal_call_spec){
                                     .method = "SandboxTerminate",
                                     .group = HTTP_CALLS,
                                     .attempt_us = TRY_US,
                                     .retry_for_us = time_left(s),
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_terminate,
                                     .done = on_terminated,
                             },
                             s, &s->call);
        if (n < 0) {
                result_set(&r, RESULT_FAILED, "environment %s: not terminated: %s", s->sandbox.id, strerror(-n));
                note_failure(s, &r);
                finish(s);
        }
}

/* Those that were found, one after the other. */
static void terminate_next(struct modal_sandbox *s) {
        const char *id = s->found.data + s->found_at;

        if (s->found_at == s->found.len) {
                finish(s);
                return;
        }
        s->found_at += strlen(id) + 1;
        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "%s", id);
        terminate(s);
}

/* find */

static int take_found(void *owner, const struct modal_info *info) {
        struct modal_sandbox *s = owner;

        return buf_append(&s->found, info->id, strlen(info->id) + 1);
}

static void on_end_timer(uv_timer_t *timer) {
        end(timer->data);
}

static void on_found(void *owner, const struct grpc_status *status) {
        struct modal_sandbox *s = owner;
        bool unborn = s->call != NULL;
        struct result r = {};

        if (unborn && s->found.len == 0 && status->code == GRPC_OK && clock_now() < s->end_by_us) {
                uv_timer_start(&s->timer, on_end_timer, FIND_AGAIN_MS, 0);
                return;
        }
        if (status->code != GRPC_OK)
                modal_client_explain(&modal_sandbox_modal(s)->client, &r, status,
                              "looking for a sandbox that may have been made (it ends by itself within %u s)",
                              s->lifetime_secs);
        else if (unborn && s->found.len == 0)
                result_set(&r, RESULT_FAILED,
                           "Modal did not answer in time; a sandbox that it made ends by itself within %u s",
                           s->lifetime_secs);
        note_failure(s, &r);
        if (unborn)
                modal_call_cancel(TAKE_PTR(s->call));
        terminate_next(s);
}

static void find(struct modal_sandbox *s) {
        struct result r;
        int n;

        s->step = MODAL_STEP_FIND;
        n = modal_listing_start(modal_sandbox_modal(s), &s->listing,
                                &(struct modal_listing_spec){
                                        .tag = { MODAL_TAG_CREATE, s->nonce },
                                        .want = MODAL_TAG_CREATE,
                                        .attempt_us = TRY_US,
                                        .retry_for_us = time_left(s),
                                        .take = take_found,
                                        .done = on_found,
                                },
                                s);
        if (n < 0) {
                result_set(&r, RESULT_FAILED, "looking for a sandbox that may have been made: %s", strerror(-n));
                note_failure(s, &r);
                finish(s);
        }
}

/* The create's call is the only one that outlives destroy(). */
static void end(struct modal_sandbox *s) {
        if (*s->sandbox.id)
                terminate(s);
        else if (s->call || s->unsure)
                find(s);
        else
                finish(s);
}

void modal_sandbox_born_late(struct modal_sandbox *s) {
        modal_listing_cancel(&s->listing);
        uv_timer_stop(&s->timer);
        end(s);
}

void modal_destroy(struct sandbox *sandbox) {
        struct modal_sandbox *s = modal_sandbox_of(sandbox);
        bool unborn = s->step == MODAL_STEP_CREATE;

        modal_sandbox_quiet(s);
        s->end_by_us = clock_now() + DESTROY_RETRY_US;
        if (s->call && !unborn)
                modal_call_cancel(TAKE_PTR(s->call));
        s->step = MODAL_STEP_FAILED;
        uv_timer_start(&s->timer, on_end_timer, unborn ? BIRTH_WAIT_MS : 0, 0);
}

/* leave */

static void on_left(uv_timer_t *timer) {
        finish(timer->data);
}

void modal_leave(struct sandbox *sandbox) {
        struct modal_sandbox *s = modal_sandbox_of(sandbox);

        modal_sandbox_quiet(s);
        if (s->call)
                modal_call_cancel(TAKE_PTR(s->call));
        s->step = MODAL_STEP_FAILED;
        uv_timer_start(&s->timer, on_left, 0, 0);
}
