/* SPDX-License-Identifier: MIT */

/*
 * A sandbox, from create to terminate.
 *
 *   create → task → probe → live      any of these but live → failed
 *   any → terminate → ended           by way of find, where a create failed and nobody knows what it did
 *
 * Its tags travel in the create request, one of them this create's alone, so that
 * a sandbox whose birth was not answered can be found and ended. The probe is
 * its first process: it shows that commands run there, and names the processes
 * that belong to the sandbox and not to any job.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal-internal.h"
#include "pool/backend/modal-script.h"
#include "pool/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

#define TASK_WAIT_SECS 20.0f /* how long one SandboxGetTaskId holds its answer back */
#define CREATE_TIMEOUT_US (60 * USEC_PER_SEC)
#define LOOK_SECS 50.0f                     /* how long one SandboxWait holds its answer back */
#define LOOK_WAITED_US (10 * USEC_PER_SEC)  /* an answer that comes sooner was not held back */
#define LOOK_AGAIN_MS 500

/* its memory */

static void on_handle_closed(uv_handle_t *handle) {
        struct modal_sandbox *s = handle->data;

        if (--s->n_handles > 0)
                return;
        free(s->task_id);
        buf_deinit(&s->kept);
        buf_deinit(&s->said);
        free(s);
}

static void cancel_all(struct modal_sandbox *s) {
        if (s->look)
                modal_call_cancel(TAKE_PTR(s->look));
        if (s->process)
                modal_process_cancel(TAKE_PTR(s->process));
        if (s->doubt)
                modal_process_cancel(TAKE_PTR(s->doubt));
        modal_processes_cancel(s);
}

static void sandbox_finish(struct modal_sandbox *s, const struct result *r) {
        s->step = MODAL_STEP_ENDED;
        if (s->call)
                modal_call_cancel(TAKE_PTR(s->call));
        modal_router_deinit(&s->router);
        sandbox_destroyed(&s->sandbox, r);
        uv_close((uv_handle_t *)&s->timer, on_handle_closed);
        uv_close((uv_handle_t *)&s->soon, on_handle_closed);
}

/* its end */

static int pack_terminate(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;

        return modal_pack_terminate(out, s->sandbox.id);
}

static void on_terminated(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        struct modal *m = modal_sandbox_modal(s);
        struct result r = {};

        s->call = NULL;
        if (status->code != GRPC_OK && status->code != GRPC_NOT_FOUND) {
                modal_explain(m, &r, status, "environment %s: not terminated (it ends by itself within %u s)",
                              s->sandbox.id, m->definition.lifetime_secs);
        }
        sandbox_finish(s, &r);
}

static void terminate(struct modal_sandbox *s) {
        struct result r;
        int n;

        s->step = MODAL_STEP_TERMINATE;
        n = modal_call_start(modal_sandbox_modal(s),
                             &(struct modal_call_spec){
                                     .method = "SandboxTerminate",
                                     .lane = HTTP_CALLS,
                                     .attempt_us = CALL_TIMEOUT_US / 3,
                                     .patience_us = DESTROY_PATIENCE_US,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_terminate,
                                     .done = on_terminated,
                             },
                             s, &s->call);
        if (n < 0) {
                result_set(&r, RESULT_FAILED, "environment %s: not terminated: %s", s->sandbox.id, strerror(-n));
                sandbox_finish(s, &r);
        }
}

static int pack_find(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;

        return modal_pack_list(out, modal_sandbox_modal(s)->app_id,
                               &(struct modal_tag){ "modalpool-create", s->nonce }, 1);
}

static int take_found(void *owner, const char *id) {
        struct modal_sandbox *s = owner;

        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "%s", id);
        return 0;
}

static void on_found(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        struct modal *m = modal_sandbox_modal(s);
        struct result r = {};
        int n = 0;

        s->call = NULL;
        if (status->code == GRPC_OK)
                n = modal_read_list(reply, len, take_found, s);
        if (*s->sandbox.id) {
                terminate(s);
                return;
        }
        if (status->code != GRPC_OK)
                modal_explain(m, &r, status, "looking for a sandbox that may have been made (it ends by itself within %u s)",
                              m->definition.lifetime_secs);
        else if (n < 0)
                result_set(&r, RESULT_FAILED, "looking for a sandbox that may have been made: %s", strerror(-n));
        sandbox_finish(s, &r);
}

/* The create was not answered, so there may be one with its tag. */
static void find(struct modal_sandbox *s) {
        struct result r;
        int n;

        s->step = MODAL_STEP_FIND;
        n = modal_call_start(modal_sandbox_modal(s),
                             &(struct modal_call_spec){
                                     .method = "SandboxList",
                                     .lane = HTTP_CALLS,
                                     .attempt_us = CALL_TIMEOUT_US / 3,
                                     .patience_us = DESTROY_PATIENCE_US,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_find,
                                     .done = on_found,
                             },
                             s, &s->call);
        if (n < 0) {
                result_set(&r, RESULT_FAILED, "looking for a sandbox that may have been made: %s", strerror(-n));
                sandbox_finish(s, &r);
        }
}

static void end(struct modal_sandbox *s) {
        struct result ok = {};

        if (*s->sandbox.id)
                terminate(s);
        else if (s->unsure)
                find(s);
        else
                sandbox_finish(s, &ok);
}

static void on_end_timer(uv_timer_t *timer) {
        struct modal_sandbox *s = timer->data;
        struct result r;

        if (s->step == MODAL_STEP_FAILED) {
                end(s);
                return;
        }
        /* The create is still not answered: what it makes has to end by itself. */
        result_set(&r, RESULT_FAILED, "Modal did not answer in time; a sandbox that it made ends by itself within %u s",
                   modal_sandbox_modal(s)->definition.lifetime_secs);
        sandbox_finish(s, &r);
}

void modal_destroy(struct sandbox *sandbox) {
        struct modal_sandbox *s = modal_sandbox_of(sandbox);

        cancel_all(s);
        uv_timer_stop(&s->soon);
        if (s->step == MODAL_STEP_CREATE) {
                /* Who is being born cannot be ended yet. */
                uv_timer_start(&s->timer, on_end_timer, 2 * DESTROY_PATIENCE_US / USEC_PER_MSEC, 0);
                return;
        }
        if (s->call)
                modal_call_cancel(TAKE_PTR(s->call));
        s->step = MODAL_STEP_FAILED;
        uv_timer_start(&s->timer, on_end_timer, 0, 0);
}

/* its birth */

static void created(struct modal_sandbox *s, const struct result *r) {
        uv_timer_stop(&s->timer);
        if (!result_ok(r))
                s->step = MODAL_STEP_FAILED;
        sandbox_created(&s->sandbox, r);
}

static void create_failed(struct modal_sandbox *s, const struct grpc_status *status, const char *what) {
        struct result r;

        modal_explain(modal_sandbox_modal(s), &r, status, "environment %s%s%s", s->sandbox.id,
                      *s->sandbox.id ? ": " : "", what);
        created(s, &r);
}

static void on_create_timer(uv_timer_t *timer) {
        struct modal_sandbox *s = timer->data;
        struct result r;

        if (s->call)
                modal_call_cancel(TAKE_PTR(s->call));
        if (s->process)
                modal_process_cancel(TAKE_PTR(s->process));
        if (s->step == MODAL_STEP_CREATE)
                s->unsure = true;
        result_set(&r, RESULT_TIMEOUT, "environment %s did not come up in %d s", s->sandbox.id,
                   (int)(CREATE_PATIENCE_US / USEC_PER_SEC));
        created(s, &r);
}

static void look_after(struct modal_sandbox *s, uint64_t ms);

static void on_probe_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct modal_sandbox *s = owner;

        (void)buf_append(&s->kept, data, len);
}

static void on_probe_ended(void *owner, const struct result *r, int code) {
        struct modal_sandbox *s = owner;
        struct result why = *r;

        s->process = NULL;
        if (result_ok(&why) && code != 0)
                result_set(&why, RESULT_INVALID,
                           "environment %s: its image has no usable /bin/sh (a first command ended with %d)",
                           s->sandbox.id, code);
        for (size_t i = 0; i < s->kept.len; i++)
                if (s->kept.data[i] == '\n')
                        s->kept.data[i] = ' ';
        if (result_ok(&why)) {
                s->sandbox.expires_us = s->began_us + modal_sandbox_modal(s)->definition.lifetime_secs * USEC_PER_SEC;
                s->step = MODAL_STEP_LIVE;
                created(s, &why);
                if (s->step == MODAL_STEP_LIVE)
                        look_after(s, 0);
        } else {
                created(s, &why);
        }
}

static const struct modal_process_events probe_events = {
        .output = on_probe_output,
        .ended = on_probe_ended,
};

static int run(struct modal_sandbox *s, int made, struct script *script, bool only_start,
               const struct modal_process_events *events, struct modal_process **out) {
        const char *args[SCRIPT_ARGUMENTS_MAX];

        for (size_t i = 0; i < script->n; i++)
                args[i] = script_argument(script, i);
        if (made == 0)
                made = modal_process_start(s,
                                           &(struct modal_process_spec){
                                                   .args = args,
                                                   .n_args = script->n,
                                                   .only_start = only_start,
                                           },
                                           events, s, out);
        script_deinit(script);
        return made;
}

static void probe(struct modal_sandbox *s) {
        struct grpc_status status = { .code = GRPC_INTERNAL, .message = "out of memory" };
        struct script script;
        int r;

        s->step = MODAL_STEP_PROBE;
        script_init(&script);
        r = run(s, script_make_probe(&script), &script, false, &probe_events, &s->process);
        if (r < 0)
                create_failed(s, &status, "running a first command");
}

static int pack_task(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;

        return modal_pack_task(out, s->sandbox.id, TASK_WAIT_SECS);
}

static void ask_for_task(struct modal_sandbox *s);

static void on_task(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        struct grpc_status odd = { .code = GRPC_INTERNAL, .message = "the answer cannot be read" };
        struct modal_result result;
        _cleanup_(cleanup_free) char *task = NULL;
        struct result r;

        s->call = NULL;
        if (status->code == GRPC_OK && modal_read_task(reply, len, &task, &result) < 0)
                status = &odd;
        if (status->code != GRPC_OK) {
                create_failed(s, status, "waiting for it to come up");
                return;
        }
        if (result.status != MODAL_RESULT_NONE) {
                result_set(&r, RESULT_FAILED, "environment %s ended before it was up: %s%s%s", s->sandbox.id,
                           modal_result_name(result.status), *result.text ? ": " : "", result.text);
                created(s, &r);
                return;
        }
        if (!*task) {
                ask_for_task(s);
                return;
        }
        s->task_id = TAKE_PTR(task);
        s->router.task_id = s->task_id;
        probe(s);
}

static void ask_for_task(struct modal_sandbox *s) {
        struct grpc_status status = { .code = GRPC_INTERNAL, .message = "out of memory" };

        s->step = MODAL_STEP_TASK;
        if (modal_call_start(modal_sandbox_modal(s),
                             &(struct modal_call_spec){
                                     .method = "SandboxGetTaskId",
                                     .lane = HTTP_CALLS,
                                     .attempt_us = POLL_TIMEOUT_US,
                                     .patience_us = CREATE_PATIENCE_US,
                                     .poll = true,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_task,
                                     .done = on_task,
                             },
                             s, &s->call) < 0)
                create_failed(s, &status, "waiting for it to come up");
}

static int pack_create(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;
        struct modal *m = modal_sandbox_modal(s);
        struct modal_definition d = m->definition;
        const struct modal_tag tags[MODAL_N_TAGS] = {
                { "modalpool-pool", m->pool_id },       { "modalpool-host", m->host },
                { "modalpool-mount", m->mount },        { "modalpool-version", MODALPOOL_VERSION },
                { "modalpool-create", s->nonce },
        };

        d.tags = tags;
        d.n_tags = MODAL_N_TAGS;
        return modal_pack_create(out, &d);
}

static void on_create(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        struct grpc_status odd = { .code = GRPC_INTERNAL, .message = "the answer cannot be read" };
        _cleanup_(cleanup_free) char *id = NULL;
        bool ending = s->sandbox.state == SANDBOX_ENDING;

        s->call = NULL;
        if (status->code == GRPC_OK && modal_read_id(reply, len, &id) < 0)
                status = &odd;
        if (status->code != GRPC_OK) {
                /* Any of these may come from one who gave up while another went on. */
                s->unsure = retry_may_pass(status) || status == &odd;
                if (!ending)
                        create_failed(s, status, "not created");
        } else {
                snprintf(s->sandbox.id, sizeof(s->sandbox.id), "%s", id);
        }
        if (ending) {
                uv_timer_stop(&s->timer);
                end(s);
        } else if (id) {
                ask_for_task(s);
        }
}

/* The control plane says that its task has ended. */
static void on_router_gone(struct modal_router *router, const struct grpc_status *status) {
        modal_sandbox_lost(container_of(router, struct modal_sandbox, router), status->message);
}

static void on_soon(uv_timer_t *timer);

int modal_create(struct backend *b, const char *nonce, struct sandbox **out) {
        struct modal *m = modal_of(b);
        struct modal_sandbox *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        snprintf(s->nonce, sizeof(s->nonce), "%s", nonce);
        s->sandbox.backend = b;
        s->began_us = clock_now();
        s->kept = (struct buf)BUF_INIT(PROBE_SIZE_MAX);
        s->said = (struct buf)BUF_INIT(COMPLAINT_MAX);
        list_init(&s->processes);
        modal_router_init(&s->router, m, "", on_router_gone);
        s->n_handles = 2;
        uv_timer_init(m->loop, &s->timer);
        uv_timer_init(m->loop, &s->soon);
        s->timer.data = s->soon.data = s;
        uv_unref((uv_handle_t *)&s->timer);
        uv_unref((uv_handle_t *)&s->soon);
        r = modal_call_start(m,
                             &(struct modal_call_spec){
                                     .method = "SandboxCreate",
                                     .lane = HTTP_CALLS,
                                     .attempt_us = CREATE_TIMEOUT_US,
                                     .tries = CALL_TRIES,
                                     .patience_us = CREATE_PATIENCE_US,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_create,
                                     .done = on_create,
                             },
                             s, &s->call);
        if (r < 0) {
                uv_close((uv_handle_t *)&s->timer, on_handle_closed);
                uv_close((uv_handle_t *)&s->soon, on_handle_closed);
                return r;
        }
        uv_timer_start(&s->timer, on_create_timer, CREATE_PATIENCE_US / USEC_PER_MSEC, 0);
        *out = &s->sandbox;
        return 0;
}

/* its death */

static void on_soon(uv_timer_t *timer) {
        struct modal_sandbox *s = timer->data;

        switch (s->sandbox.state) {
        case SANDBOX_CREATING:
                if (s->call)
                        modal_call_cancel(TAKE_PTR(s->call));
                if (s->process)
                        modal_process_cancel(TAKE_PTR(s->process));
                created(s, &s->why);
                break;
        case SANDBOX_LIVE:
                sandbox_died(&s->sandbox, &s->why);
                break;
        case SANDBOX_DEAD:
        case SANDBOX_ENDING:
                break;
        }
}

void modal_sandbox_lost(struct modal_sandbox *s, const char *what) {
        if (s->dying || s->step >= MODAL_STEP_FAILED)
                return;
        s->dying = true;
        result_set(&s->why, RESULT_LOST, "environment %s is gone: %s", s->sandbox.id, what);
        modal_scrub(modal_sandbox_modal(s), s->why.text);
        uv_timer_start(&s->soon, on_soon, 0, 0);
}

static void on_no_output(void *owner, enum stream stream, const void *data, size_t len) {
}

/* A command could be started there, so it lives. When it is dead, the process itself says so. */
static void on_doubt_over(void *owner, const struct result *r, int code) {
        struct modal_sandbox *s = owner;

        s->doubt = NULL;
        modal_processes_unknown(s);
}

static const struct modal_process_events doubt_events = {
        .output = on_no_output,
        .ended = on_doubt_over,
};

void modal_sandbox_doubt(struct modal_sandbox *s) {
        struct script script;

        if (s->doubt || s->dying)
                return;
        script_init(&script);
        if (run(s, script_make_probe(&script), &script, true, &doubt_events, &s->doubt) < 0)
                modal_sandbox_lost(s, "its state cannot be asked for: out of memory");
}

/* While nothing runs in it, nothing else would tell. Modal holds the answer back until it has ended. */
static int pack_look(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;

        return modal_pack_wait(out, s->sandbox.id, LOOK_SECS);
}

static void on_look(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        struct modal_result result = {};
        char what[320];
        bool over, waited = clock_now() - s->looked_us >= LOOK_WAITED_US;

        s->look = NULL;
        if (s->dying)
                return;
        over = status->code == GRPC_NOT_FOUND ||
               (status->code == GRPC_OK && modal_read_wait(reply, len, &result) == 0 &&
                result.status != MODAL_RESULT_NONE);
        if (!over) {
                look_after(s, status->code == GRPC_OK && waited ? 0 : LOOK_INTERVAL_MS);
        } else if (!list_empty(&s->processes)) {
                look_after(s, LOOK_AGAIN_MS); /* they find out by themselves, with what they still said */
        } else if (status->code == GRPC_NOT_FOUND) {
                modal_sandbox_lost(s, status->message);
        } else {
                snprintf(what, sizeof(what), "%s%s%s", modal_result_name(result.status), *result.text ? ": " : "",
                         result.text);
                modal_sandbox_lost(s, what);
        }
}

static void on_look_timer(uv_timer_t *timer) {
        struct modal_sandbox *s = timer->data;

        s->looked_us = clock_now();
        if (modal_call_start(modal_sandbox_modal(s),
                             &(struct modal_call_spec){
                                     .method = "SandboxWait",
                                     .lane = HTTP_CALLS,
                                     .attempt_us = CALL_TIMEOUT_US + (int64_t)LOOK_SECS * USEC_PER_SEC,
                                     .tries = CALL_TRIES,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_look,
                                     .done = on_look,
                             },
                             s, &s->look) < 0)
                look_after(s, LOOK_INTERVAL_MS);
}

static void look_after(struct modal_sandbox *s, uint64_t ms) {
        uv_timer_start(&s->timer, on_look_timer, ms, 0);
}

/* clean-up */

static void on_clean_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct modal_sandbox *s = owner;

        if (len > s->said.max - s->said.len)
                len = s->said.max - s->said.len;
        (void)buf_append(&s->said, data, len);
}

static void on_cleaned(void *owner, const struct result *r, int code) {
        struct modal_sandbox *s = owner;
        struct result why = *r;

        s->process = NULL;
        if (result_ok(&why) && code != 0)
                result_set(&why, RESULT_FAILED, "environment %s: %s", s->sandbox.id,
                           s->said.len ? buf_text(&s->said) : "the clean-up was killed");
        sandbox_cleaned(&s->sandbox, &why);
}

static const struct modal_process_events clean_events = {
        .output = on_clean_output,
        .ended = on_cleaned,
};

int modal_clean(struct sandbox *sandbox, const char *workdir) {
        struct modal_sandbox *s = modal_sandbox_of(sandbox);
        struct script script;

        if (s->doubt)
                modal_process_cancel(TAKE_PTR(s->doubt));
        modal_processes_cancel(s); /* signals that are still under way */
        buf_clear(&s->said);
        script_init(&script);
        return run(s, script_make_clean(&script, workdir, buf_text(&s->kept)), &script, false, &clean_events,
                   &s->process);
}
