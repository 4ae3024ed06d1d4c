/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/net/retry.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

#define REQUEST_TIMEOUT_US (60 * USEC_PER_SEC) /* one try */

static int send_request(struct modal_request *q, bool v2);

/* the answer */

static int take_v1(struct modal_request *q, const void *reply, size_t len) {
        _cleanup_(cleanup_free) char *id = NULL;
        int r = modal_read_id(reply, len, &id);

        if (r == 0)
                snprintf(q->identity->id, SANDBOX_ID_MAX, "%s", id);
        return r;
}

/* @why is set to what is wrong with the access to the router, if it is that. */
static int take_v2(struct modal_request *q, const void *reply, size_t len, struct grpc_status *why) {
        _cleanup_(modal_created_deinit) struct modal_created made = {};
        int r = modal_read_created(reply, len, &made);

        if (r < 0)
                return r;
        if (strlen(made.token) > SANDBOX_TOKEN_MAX || !modal_metadata_is_value(made.token))
                return -EBADMSG;
        snprintf(q->identity->id, SANDBOX_ID_MAX, "%s", made.id);
        modal_secret_set(&q->identity->token, q->template->control->client, TAKE_PTR(made.token));
        if (*made.task_id)
                q->identity->task_id = TAKE_PTR(made.task_id);
        return *made.url ? modal_router_take(q->router, TAKE_PTR(made.url), TAKE_PTR(made.jwt), why) : 0;
}

/* Try V1 in place of V2, if that may be what @status asks for. True: it is under way. */
static bool fall_back(struct modal_request *q, const struct grpc_status *status) {
        if (!q->v2 || q->withdrawn || q->template->settings.kind == MODAL_KIND_V2)
                return false;
        switch (status->code) {
        case GRPC_UNIMPLEMENTED:
                modal_control_has_no_v2(q->template->control);
                break;
        case GRPC_INVALID_ARGUMENT:
        case GRPC_FAILED_PRECONDITION:
                break;
        default:
                return false;
        }
        q->refusal = *status;
        return send_request(q, false) == 0;
}

/* V1 makes what V2 refused. */
static void note_refusal(struct modal_request *q) {
        struct modal_template *t = q->template;
        struct result why;

        if (q->refusal.code == GRPC_OK || t->control->no_v2 || t->v2_refused)
                return;
        t->v2_refused = true;
        modal_client_explain(t->control->client, &why, &q->refusal, "the sandboxes of this pool are V1, as V2 refuses them");
        log_warning("modal: %s", why.text);
}

static void on_answer(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_request *q = owner;
        struct grpc_status why = q->v2 ? *MODAL_UNREADABLE("SandboxCreateV2") : *MODAL_UNREADABLE("SandboxCreate");
        bool made = status->code == GRPC_OK;

        q->call = NULL;
        if (fall_back(q, status))
                return;
        if (made)
                note_refusal(q);
        if (made && (q->v2 ? take_v2(q, reply, len, &why) : take_v1(q, reply, len)) < 0)
                status = &why;
        /* One try may have given up while Modal went on with it. */
        q->unsure = status->code != GRPC_OK && (made || retry_may_pass(status));
        q->answered(q, status);
}

/* the request */

static int pack(void *owner, struct buf *out) {
        struct modal_request *q = owner;
        struct modal_definition d = q->template->settings.definition;
        struct modal_tag tags[MODAL_N_TAGS];

        modal_template_tags(q->template, q->identity->nonce, tags);
        d.tags = tags;
        d.n_tags = MODAL_N_TAGS;
        return modal_pack_create(out, &d, q->v2);
}

static int send_request(struct modal_request *q, bool v2) {
        struct modal_control *control = q->template->control;

        q->v2 = v2;
        return modal_call_start(v2 ? &control->auth.endpoint : &control->endpoint,
                                &(struct modal_call_spec){
                                        .method = v2 ? "SandboxCreateV2" : "SandboxCreate",
                                        .group = HTTP_CALLS,
                                        .attempt_us = REQUEST_TIMEOUT_US,
                                        .tries = CALL_TRIES,
                                        .retry_for_us = q->template->settings.create_timeout_us,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack,
                                        .done = on_answer,
                                },
                                q, &q->call);
}

static bool choose_v2(const struct modal_template *t) {
        switch (t->settings.kind) {
        case MODAL_KIND_V1:
                return false;
        case MODAL_KIND_V2:
                return true;
        case MODAL_KIND_AUTO:
                break;
        }
        return !t->control->no_v2 && !t->v2_refused && !t->settings.definition.gpu_type;
}

int modal_request_start(struct modal_request *q) {
        return send_request(q, choose_v2(q->template));
}

void modal_request_withdraw(struct modal_request *q) {
        q->withdrawn = true;
}

void modal_request_cancel(struct modal_request *q) {
        if (q->call)
                modal_call_cancel(TAKE_PTR(q->call));
}

void modal_request_init(struct modal_request *q, struct modal_template *template, struct modal_identity *identity,
                        struct modal_router *router,
                        void (*answered)(struct modal_request *q, const struct grpc_status *status)) {
        *q = (struct modal_request){
                .answered = answered,
                .template = template,
                .identity = identity,
                .router = router,
        };
}
