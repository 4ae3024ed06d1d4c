/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/create.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/exec/run-script.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/sandbox/resume-token.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define TASK_WAIT_SECS 20.0f /* how long one SandboxGetTaskId holds its answer back */

/* How long Modal may take. */
static int64_t limit(const struct modal_create *c) {
        return c->template->settings.create_timeout_us;
}

static void finish(struct modal_create *c, const struct result *r) {
        uv_timer_stop(&c->timer);
        c->state = MODAL_CREATE_OVER;
        c->events->created(c, r);
}

static void fail(struct modal_create *c, const struct grpc_status *status, const char *what) {
        const char *id = c->identity->id;
        struct result r;

        modal_client_explain(c->template->control->client, &r, status, "environment %s%s%s", id, *id ? ": " : "", what);
        finish(c, &r);
}

static void on_timer(uv_timer_t *timer) {
        struct modal_create *c = timer->data;
        enum modal_create_state state = c->state;
        struct result r;

        modal_create_cancel(c);
        if (state == MODAL_CREATE_REQUEST)
                c->unsure = true;
        if (state == MODAL_CREATE_ADOPT)
                result_set(&r, RESULT_TIMEOUT, "environment %s did not answer in %d s", c->identity->id,
                           (int)(ADOPT_RETRY_US / USEC_PER_SEC));
        else if (state == MODAL_CREATE_READY)
                result_set(&r, RESULT_TIMEOUT, "environment %s was not ready in %g s (create_timeout): option ready=%s",
                           c->identity->id, (double)limit(c) / USEC_PER_SEC, c->template->settings.ready);
        else
                result_set(&r, RESULT_TIMEOUT, "environment %s did not come up in %g s (create_timeout)", c->identity->id,
                           (double)limit(c) / USEC_PER_SEC);
        finish(c, &r);
}

/* the first process */

/* More than one short line is no answer: what does not fit makes it too long. */
static void on_probe_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct modal_create *c = owner;
        struct buf *own = &c->identity->own;

        (void)buf_append(own, data, len < PROBE_SIZE_MAX - own->len ? len : PROBE_SIZE_MAX - own->len);
}

/* "PID:START" and a newline, which goes. */
static bool read_own(struct modal_create *c) {
        struct buf *own = &c->identity->own;
        size_t len = own->len, pid = strspn(buf_text(own), "0123456789");
        size_t start = len > pid ? strspn(own->data + pid + 1, "0123456789") : 0;

        if (pid == 0 || start == 0 || own->data[pid] != ':' || pid + 1 + start + 1 != len || own->data[len - 1] != '\n')
                return false;
        own->data[--own->len] = '\0';
        return true;
}

static void on_probe_ended(void *owner, const struct result *r, int code) {
        struct modal_create *c = owner;
        struct result why = *r;

        c->process = NULL;
        if (result_ok(&why) && code == PROBE_NO_SHELL)
                result_set(&why, RESULT_INVALID, "environment %s: option shell: its image has no program %s",
                           c->identity->id, c->template->settings.shell);
        else if (result_ok(&why) && code != 0)
                result_set(&why, RESULT_INVALID,
                           "environment %s: its image has no usable /bin/sh (a first command ended with %d)",
                           c->identity->id, code);
        else if (result_ok(&why) && !read_own(c))
                result_set(&why, RESULT_INVALID, "environment %s: its processes cannot be seen in /proc",
                           c->identity->id);
        finish(c, &why);
}

static const struct modal_process_events probe_events = {
        .output = on_probe_output,
        .ended = on_probe_ended,
};

/* Commands run there, however this one ended. */
static void on_proof_ended(void *owner, const struct result *r, int code) {
        struct modal_create *c = owner;

        c->process = NULL;
        finish(c, r);
}

static const struct modal_process_events proof_events = {
        .output = modal_no_output,
        .ended = on_proof_ended,
};

static int probe(struct modal_create *c, const struct modal_process_events *events, int64_t retry_for_us) {
        struct script script;

        script_init(&script);
        return modal_run_script(c->processes, &script, script_make_probe(&script, c->template->settings.shell),
                                &(struct modal_process_spec){ .retry_for_us = retry_for_us }, events, c, &c->process);
}

/* A V2 sandbox may still be starting: that takes as long as the task of a V1 sandbox. */
static void run_probe(struct modal_create *c) {
        c->state = MODAL_CREATE_PROBE;
        if (probe(c, &probe_events, modal_identity_is_v2(c->identity) ? limit(c) : START_RETRY_US) < 0)
                fail(c, &modal_no_memory, "running a first command");
}

/* readiness */

static void on_ready(struct modal_readiness *r, const struct grpc_status *status) {
        struct modal_create *c = container_of(r, struct modal_create, readiness);

        if (status->code == GRPC_OK)
                run_probe(c);
        else
                fail(c, status, "waiting until it is ready, by option ready");
}

/* Its task is known. */
static void await_readiness(struct modal_create *c) {
        if (!*c->template->settings.ready) {
                run_probe(c);
                return;
        }
        c->state = MODAL_CREATE_READY;
        if (modal_readiness_start(&c->readiness, c->processes->router, c->identity, limit(c), on_ready) < 0)
                fail(c, &modal_no_memory, "waiting until it is ready");
}

/* the task, which execs are addressed to */

static int pack_task(void *owner, struct buf *out) {
        struct modal_create *c = owner;

        return modal_pack_task(out, c->identity->id, TASK_WAIT_SECS);
}

static void ask_for_task(struct modal_create *c);

static void on_task(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_create *c = owner;
        struct modal_result result;
        char text[MODAL_RESULT_TEXT_MAX];
        _cleanup_(cleanup_free) char *task = NULL;
        struct result r;

        c->call = NULL;
        if (status->code == GRPC_OK && modal_read_task(reply, len, &task, &result) < 0)
                status = MODAL_UNREADABLE("SandboxGetTaskId");
        if (status->code != GRPC_OK) {
                fail(c, status, "waiting for it to come up");
                return;
        }
        if (result.status != MODAL_RESULT_NONE) {
                modal_ends_add(&c->template->control->client->ends, modal_result_name(result.status), result.exit_code);
                modal_result_explain(&result, text);
                result_set(&r, RESULT_FAILED, "environment %s ended before it was up: %s", c->identity->id, text);
                finish(c, &r);
                return;
        }
        if (!*task) {
                ask_for_task(c);
                return;
        }
        c->identity->task_id = TAKE_PTR(task);
        await_readiness(c);
}

static void ask_for_task(struct modal_create *c) {
        c->state = MODAL_CREATE_TASK;
        if (modal_control_call(c->template->control, c->identity, "SandboxGetTaskIdV2",
                               &(struct modal_call_spec){
                                       .method = "SandboxGetTaskId",
                                       .group = HTTP_CALLS,
                                       .attempt_us = POLL_TIMEOUT_US,
                                       .retry_for_us = limit(c),
                                       .poll = true,
                                       .message_max = MODAL_MESSAGE_MAX,
                                       .pack = pack_task,
                                       .done = on_task,
                               },
                               c, &c->call) < 0)
                fail(c, &modal_no_memory, "waiting for it to come up");
}

/* the request */

static void on_answered(struct modal_request *q, const struct grpc_status *status) {
        struct modal_create *c = container_of(q, struct modal_create, request);

        c->unsure = q->unsure;
        if (q->withdrawn)
                c->events->answered(c);
        else if (status->code != GRPC_OK)
                fail(c, status, status->code == GRPC_RESOURCE_EXHAUSTED ? "not created, for lack of capacity" : "not created");
        else if (c->identity->task_id)
                await_readiness(c);
        else
                ask_for_task(c);
}

int modal_create_start(struct modal_create *c) {
        int r = modal_request_start(&c->request);

        if (r < 0)
                return r;
        c->state = MODAL_CREATE_REQUEST;
        uv_timer_start(&c->timer, on_timer, limit(c) / USEC_PER_MSEC, 0);
        return 0;
}

/* adopt */

static int take_sandbox_token(struct modal_create *c, const char *text) {
        char *token = strdup(text);

        if (!token)
                return -ENOMEM;
        modal_secret_set(&c->identity->token, c->template->control->client, token);
        return 0;
}

static int take_resume_token(struct modal_create *c, const char *text) {
        _cleanup_(cleanup_free) char *copy = strdup(text);
        struct modal_resume_token resume_token;
        int64_t passed;
        int r = copy ? modal_resume_token_read(copy, &resume_token) : -ENOMEM;

        if (r < 0)
                return r;
        c->identity->task_id = strdup(resume_token.task_id);
        if (!c->identity->task_id)
                return -ENOMEM;
        snprintf(c->identity->id, SANDBOX_ID_MAX, "%s", resume_token.id);
        r = take_sandbox_token(c, resume_token.sandbox_token);
        if (r < 0)
                return r;
        c->identity->lifetime_secs = resume_token.lifetime_secs;
        c->identity->began_wall_us = resume_token.began_wall_us;
        /* Wall time may have been set meanwhile. It did not begin in the future. */
        passed = clock_read_us(CLOCK_REALTIME) - resume_token.began_wall_us;
        c->identity->began_us = clock_now() - (passed > 0 ? passed : 0);
        return buf_append(&c->identity->own, resume_token.kept, strlen(resume_token.kept));
}

int modal_create_adopt(struct modal_create *c, const char *resume_token) {
        int r = take_resume_token(c, resume_token);

        if (r < 0)
                return r;
        r = probe(c, &proof_events, ADOPT_RETRY_US);
        if (r < 0)
                return r;
        c->state = MODAL_CREATE_ADOPT;
        uv_timer_start(&c->timer, on_timer, ADOPT_RETRY_US / USEC_PER_MSEC, 0);
        return 0;
}

/* stop */

bool modal_create_withdraw(struct modal_create *c) {
        if (c->state != MODAL_CREATE_REQUEST) {
                modal_create_cancel(c);
                return false;
        }
        uv_timer_stop(&c->timer);
        modal_request_withdraw(&c->request);
        return true;
}

void modal_create_cancel(struct modal_create *c) {
        uv_timer_stop(&c->timer);
        modal_request_cancel(&c->request);
        if (c->call)
                modal_call_cancel(TAKE_PTR(c->call));
        modal_readiness_cancel(&c->readiness);
        if (c->process)
                modal_process_cancel(TAKE_PTR(c->process));
        c->state = MODAL_CREATE_OVER;
}

void modal_create_init(struct modal_create *c, const struct modal_create_events *events,
                       struct modal_template *template, struct modal_identity *identity, struct modal_router *router,
                       struct modal_processes *processes) {
        *c = (struct modal_create){
                .events = events,
                .template = template,
                .identity = identity,
                .processes = processes,
        };
        modal_request_init(&c->request, template, identity, router, on_answered);
        uv_timer_init(template->control->client->loop, &c->timer);
        uv_unref((uv_handle_t *)&c->timer);
        c->timer.data = c;
}
