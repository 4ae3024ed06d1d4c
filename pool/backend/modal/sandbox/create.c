/* SPDX-License-Identifier: MIT */

/*
 * How a sandbox comes to us: by a create, or from an earlier run.
 *
 *   create → task → probe → live
 *   adopt → live                      any of these but live → failed
 *
 * Its tags travel in the create request, one of them this create's alone, so that a sandbox whose birth was not
 * answered can be found and ended. The probe is its first process: it shows that commands run there, and names the
 * processes that belong to the sandbox and not to any job. An adopted one runs it too, as a proof that it lives, but
 * what it says does not count: jobs of the earlier run may be there.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/exec/run-script.h"
#include "pool/backend/modal/internal.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/sandbox/resume-token.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

#define TASK_WAIT_SECS 20.0f /* how long one SandboxGetTaskId holds its answer back */
#define CREATE_TIMEOUT_US (60 * USEC_PER_SEC)

static void create_failed(struct modal_sandbox *s, const struct grpc_status *status, const char *what) {
        struct result r;

        modal_client_explain(&modal_sandbox_modal(s)->client, &r, status, "environment %s%s%s", s->sandbox.id,
                      *s->sandbox.id ? ": " : "", what);
        modal_sandbox_created(s, &r);
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
        result_set(&r, RESULT_TIMEOUT, "environment %s did not %s in %d s", s->sandbox.id,
                   s->step == MODAL_STEP_ADOPT ? "answer" : "come up", (int)(CREATE_RETRY_US / USEC_PER_SEC));
        modal_sandbox_created(s, &r);
}

/* the first process */

static void live(struct modal_sandbox *s) {
        struct result ok = {};
        int r = modal_resume_token_make(
                &(struct modal_resume_token){
                        .id = s->sandbox.id,
                        .task_id = s->task_id,
                        .began_wall_us = s->began_wall_us,
                        .lifetime_secs = s->lifetime_secs,
                        .kept = buf_text(&s->kept),
                },
                &s->resume_token);

        if (r < 0)
                log_warning("environment=%s: it will not outlive this run: %s", s->sandbox.id, strerror(-r));
        s->sandbox.resume_token = s->resume_token;
        s->sandbox.expires_us = s->began_us + s->lifetime_secs * USEC_PER_SEC;
        s->step = MODAL_STEP_LIVE;
        modal_sandbox_created(s, &ok);
        if (s->step == MODAL_STEP_LIVE) {
                modal_sandbox_look(s);
                modal_hold_probe_start(&s->processes.hold_probe, &s->router.endpoint, s->task_id);
        }
}

/* More than one short line is no answer: what does not fit makes it too long. */
static void on_probe_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct modal_sandbox *s = owner;

        (void)buf_append(&s->kept, data, len < PROBE_SIZE_MAX - s->kept.len ? len : PROBE_SIZE_MAX - s->kept.len);
}

/* "PID:START" and a newline, which goes. */
static bool read_own(struct modal_sandbox *s) {
        size_t len = s->kept.len, pid = strspn(buf_text(&s->kept), "0123456789");
        size_t start = len > pid ? strspn(s->kept.data + pid + 1, "0123456789") : 0;

        if (pid == 0 || start == 0 || s->kept.data[pid] != ':' || pid + 1 + start + 1 != len ||
            s->kept.data[len - 1] != '\n')
                return false;
        s->kept.data[--s->kept.len] = '\0';
        return true;
}

static void on_probe_ended(void *owner, const struct result *r, int code) {
        struct modal_sandbox *s = owner;
        struct result why = *r;

        s->process = NULL;
        if (result_ok(&why) && code == PROBE_NO_SHELL)
                result_set(&why, RESULT_INVALID, "environment %s: option shell: its image has no program %s", s->sandbox.id,
                           modal_sandbox_modal(s)->shell);
        else if (result_ok(&why) && code != 0)
                result_set(&why, RESULT_INVALID,
                           "environment %s: its image has no usable /bin/sh (a first command ended with %d)",
                           s->sandbox.id, code);
        else if (result_ok(&why) && !read_own(s))
                result_set(&why, RESULT_INVALID, "environment %s: its processes cannot be seen in /proc", s->sandbox.id);
        if (result_ok(&why))
                live(s);
        else
                modal_sandbox_created(s, &why);
}

static const struct modal_process_events probe_events = {
        .output = on_probe_output,
        .ended = on_probe_ended,
};

/* Commands run there, however this one ended. */
static void on_proof_ended(void *owner, const struct result *r, int code) {
        struct modal_sandbox *s = owner;

        s->process = NULL;
        if (result_ok(r))
                live(s);
        else
                modal_sandbox_created(s, r);
}

static const struct modal_process_events proof_events = {
        .output = modal_no_output,
        .ended = on_proof_ended,
};

static int probe(struct modal_sandbox *s, const struct modal_process_events *events, int64_t retry_for_us) {
        struct script script;

        script_init(&script);
        return modal_run_script(&s->processes, &script, script_make_probe(&script, modal_sandbox_modal(s)->shell),
                                &(struct modal_process_spec){ .retry_for_us = retry_for_us }, events, s, &s->process);
}

/* the task, which execs are addressed to */

static int pack_task(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;

        return modal_pack_task(out, s->sandbox.id, TASK_WAIT_SECS);
}

static void ask_for_task(struct modal_sandbox *s);

static void on_task(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        struct modal_result result;
        _cleanup_(cleanup_free) char *task = NULL;
        struct result r;

        s->call = NULL;
        if (status->code == GRPC_OK && modal_read_task(reply, len, &task, &result) < 0)
                status = MODAL_UNREADABLE("SandboxGetTaskId");
        if (status->code != GRPC_OK) {
                create_failed(s, status, "waiting for it to come up");
                return;
        }
        if (result.status != MODAL_RESULT_NONE) {
                result_set(&r, RESULT_FAILED, "environment %s ended before it was up: %s%s%s", s->sandbox.id,
                           modal_result_name(result.status), *result.text ? ": " : "", result.text);
                modal_sandbox_created(s, &r);
                return;
        }
        if (!*task) {
                ask_for_task(s);
                return;
        }
        s->task_id = TAKE_PTR(task);
        modal_sandbox_has_task(s);
        s->step = MODAL_STEP_PROBE;
        if (probe(s, &probe_events, START_RETRY_US) < 0)
                create_failed(s, &modal_no_memory, "running a first command");
}

static void ask_for_task(struct modal_sandbox *s) {
        s->step = MODAL_STEP_TASK;
        if (modal_call_start(&modal_sandbox_modal(s)->control,
                             &(struct modal_call_spec){
                                     .method = "SandboxGetTaskId",
                                     .group = HTTP_CALLS,
                                     .attempt_us = POLL_TIMEOUT_US,
                                     .retry_for_us = CREATE_RETRY_US,
                                     .poll = true,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_task,
                                     .done = on_task,
                             },
                             s, &s->call) < 0)
                create_failed(s, &modal_no_memory, "waiting for it to come up");
}

/* create */

static int pack_create(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;
        struct modal *m = modal_sandbox_modal(s);
        struct modal_definition d = m->definition;
        const struct modal_tag tags[MODAL_N_TAGS] = {
                { MODAL_TAG_POOL, m->pool_id },  { "modalpool-host", m->host },
                { "modalpool-mount", m->mount }, { "modalpool-version", MODALPOOL_VERSION },
                { MODAL_TAG_CREATE, s->nonce },
        };

        d.tags = tags;
        d.n_tags = MODAL_N_TAGS;
        return modal_pack_create(out, &d);
}

static void on_create(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        _cleanup_(cleanup_free) char *id = NULL;
        bool ending = s->sandbox.state == SANDBOX_ENDING, made = status->code == GRPC_OK;

        s->call = NULL;
        if (made && modal_read_id(reply, len, &id) < 0)
                status = MODAL_UNREADABLE("SandboxCreate");
        if (status->code != GRPC_OK) {
                /* Any of these may come from one who gave up while another went on. */
                s->unsure = made || retry_may_pass(status);
                if (!ending)
                        create_failed(s, status, "not created");
        } else {
                snprintf(s->sandbox.id, sizeof(s->sandbox.id), "%s", id);
        }
        if (ending)
                modal_sandbox_born_late(s);
        else if (id)
                ask_for_task(s);
}

int modal_create(struct backend *b, const char *nonce, struct sandbox **out) {
        struct modal *m = modal_of(b);
        struct modal_sandbox *s = modal_sandbox_new(m, nonce);
        int r;

        if (!s)
                return -ENOMEM;
        s->step = MODAL_STEP_CREATE;
        r = modal_call_start(&m->control,
                             &(struct modal_call_spec){
                                     .method = "SandboxCreate",
                                     .group = HTTP_CALLS,
                                     .attempt_us = CREATE_TIMEOUT_US,
                                     .tries = CALL_TRIES,
                                     .retry_for_us = CREATE_RETRY_US,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_create,
                                     .done = on_create,
                             },
                             s, &s->call);
        if (r < 0) {
                modal_sandbox_close(s);
                return r;
        }
        uv_timer_start(&s->timer, on_create_timer, CREATE_RETRY_US / USEC_PER_MSEC, 0);
        *out = &s->sandbox;
        return 0;
}

/* adopt */

static int take_resume_token(struct modal_sandbox *s, const char *text) {
        _cleanup_(cleanup_free) char *copy = strdup(text);
        struct modal_resume_token resume_token;
        int64_t passed;
        int r = copy ? modal_resume_token_read(copy, &resume_token) : -ENOMEM;

        if (r < 0)
                return r;
        s->task_id = strdup(resume_token.task_id);
        if (!s->task_id)
                return -ENOMEM;
        modal_sandbox_has_task(s);
        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "%s", resume_token.id);
        s->lifetime_secs = resume_token.lifetime_secs;
        s->began_wall_us = resume_token.began_wall_us;
        /* Wall time may have been set meanwhile. It did not begin in the future. */
        passed = clock_read_us(CLOCK_REALTIME) - resume_token.began_wall_us;
        s->began_us = clock_now() - (passed > 0 ? passed : 0);
        return buf_append(&s->kept, resume_token.kept, strlen(resume_token.kept));
}

int modal_adopt(struct backend *b, const char *nonce, const char *resume_token, struct sandbox **out) {
        struct modal_sandbox *s = modal_sandbox_new(modal_of(b), nonce);
        struct result why;
        int r = 0;

        if (!s)
                return -ENOMEM;
        if (!*resume_token) {
                s->step = MODAL_STEP_FAILED; /* no create is under way whose answer could be waited for */
                s->unsure = true;
                result_set(&why, RESULT_FAILED, "an earlier run never heard whether a sandbox was made");
                modal_sandbox_fail_soon(s, &why);
        } else {
                s->step = MODAL_STEP_ADOPT;
                r = take_resume_token(s, resume_token);
                if (r == 0)
                        r = probe(s, &proof_events, CREATE_RETRY_US);
                uv_timer_start(&s->timer, on_create_timer, CREATE_RETRY_US / USEC_PER_MSEC, 0);
        }
        if (r < 0) {
                modal_sandbox_close(s);
                return r;
        }
        *out = &s->sandbox;
        return 0;
}
