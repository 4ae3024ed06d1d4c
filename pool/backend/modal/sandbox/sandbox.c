/* SPDX-License-Identifier: MIT */

/*
 * A sandbox while it lives: what runs in it by our wish, whether it still is there, its clean-up. How it comes to us
 * is in sandbox/create.c, how it goes in sandbox/terminate.c.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/exec/run-script.h"
#include "pool/backend/modal/internal.h"
#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define LOOK_SECS 50.0f    /* how long one SandboxWait holds its answer back … */
#define LOOK_LEAST_SECS 2.0f /* … and when others wait for their turn */
#define LOOK_AGAIN_MS 500

/* its memory */

static void on_handle_closed(uv_handle_t *handle) {
        struct modal_sandbox *s = handle->data;

        if (--s->n_handles > 0)
                return;
        free(s->task_id);
        free(s->resume_token);
        free(s->to_clean);
        buf_deinit(&s->kept);
        buf_deinit(&s->said);
        buf_deinit(&s->found);
        free(s);
}

/* The control plane says that its task has ended. */
static void on_router_gone(struct modal_router *router, const struct grpc_status *status) {
        modal_sandbox_lost(container_of(router, struct modal_sandbox, router), status->message);
}

static struct modal_sandbox *of_processes(struct modal_processes *t) {
        return container_of(t, struct modal_sandbox, processes);
}

static void on_lost(struct modal_processes *t, const char *what) {
        modal_sandbox_lost(of_processes(t), what);
}

/* A command could be started there, so it lives. When it is dead, the process itself says so. */
static void on_exists(void *owner, const struct result *r, int code) {
        struct modal_sandbox *s = owner;

        s->existence = NULL;
        modal_processes_unknown(&s->processes);
}

static const struct modal_process_events existence_events = {
        .output = modal_no_output,
        .ended = on_exists,
};

/* The router does not know a process: does it know the sandbox? */
static void on_unknown(struct modal_processes *t) {
        struct modal_sandbox *s = of_processes(t);
        struct script script;

        if (s->existence)
                return;
        script_init(&script);
        if (modal_run_script(t, &script, script_make_probe(&script, ""), &(struct modal_process_spec){ .only_start = true },
                             &existence_events, s, &s->existence) < 0)
                modal_sandbox_lost(s, "its state cannot be asked for: out of memory");
}

static void on_start_known(struct modal_processes *t, bool sure);

static const struct modal_processes_events processes_events = {
        .lost = on_lost,
        .unknown = on_unknown,
        .start_known = on_start_known,
};

struct modal_sandbox *modal_sandbox_new(struct modal *m, const char *nonce) {
        struct modal_sandbox *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        snprintf(s->nonce, sizeof(s->nonce), "%s", nonce);
        s->sandbox.backend = &m->backend;
        s->began_us = clock_now();
        s->began_wall_us = clock_read_us(CLOCK_REALTIME);
        s->lifetime_secs = m->definition.lifetime_secs;
        s->kept = (struct buf)BUF_INIT(PROBE_SIZE_MAX);
        s->said = (struct buf)BUF_INIT(COMPLAINT_MAX);
        s->found = (struct buf)BUF_INIT(FOUND_SIZE_MAX);
        list_init(&s->link_look);
        modal_router_init(&s->router, &m->control, on_router_gone);
        modal_processes_init(&s->processes, &processes_events, &s->router.endpoint, s->sandbox.id);
        s->n_handles = 2;
        uv_timer_init(m->client.loop, &s->timer);
        uv_timer_init(m->client.loop, &s->soon);
        s->timer.data = s->soon.data = s;
        uv_unref((uv_handle_t *)&s->timer);
        uv_unref((uv_handle_t *)&s->soon);
        return s;
}

void modal_sandbox_has_task(struct modal_sandbox *s) {
        s->router.task_id = s->processes.task_id = s->task_id;
}

void modal_sandbox_close(struct modal_sandbox *s) {
        uv_close((uv_handle_t *)&s->timer, on_handle_closed);
        uv_close((uv_handle_t *)&s->soon, on_handle_closed);
}

void modal_sandbox_created(struct modal_sandbox *s, const struct result *r) {
        uv_timer_stop(&s->timer);
        if (!result_ok(r))
                s->step = MODAL_STEP_FAILED;
        sandbox_created(&s->sandbox, r);
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
                modal_sandbox_created(s, &s->why);
                break;
        case SANDBOX_LIVE:
                sandbox_died(&s->sandbox, &s->why);
                break;
        case SANDBOX_FAILED:
        case SANDBOX_DEAD:
        case SANDBOX_ENDING:
        case SANDBOX_GONE:
                break;
        }
}

void modal_sandbox_fail_soon(struct modal_sandbox *s, const struct result *why) {
        s->dying = true;
        modal_processes_lost(&s->processes);
        s->why = *why;
        uv_timer_start(&s->soon, on_soon, 0, 0);
}

void modal_sandbox_lost(struct modal_sandbox *s, const char *what) {
        struct result why;

        if (s->dying || s->step >= MODAL_STEP_FAILED)
                return;
        result_set(&why, RESULT_LOST, "environment %s is gone: %s", s->sandbox.id, what);
        modal_client_scrub(&modal_sandbox_modal(s)->client, why.text);
        modal_sandbox_fail_soon(s, &why);
}

/*
 * Whether it still is there: while nothing runs in it, nothing else would tell. Modal holds the answer back until it
 * has ended. Each such call costs memory here, a place on a connection, and a look by curl at whatever comes over
 * that, so with more than LOOKS_MAX sandboxes they take turns: then a death is noticed a while later, or by the next job.
 */

static void look_next(struct modal *m);

void modal_sandbox_look(struct modal_sandbox *s) {
        struct modal *m = modal_sandbox_modal(s);

        list_add_tail(&m->unlooked, &s->link_look);
        look_next(m);
}

static void on_look_timer(uv_timer_t *timer) {
        struct modal_sandbox *s = timer->data;

        list_remove(&s->link_look);
        modal_sandbox_look(s);
}

static void look_later(struct modal_sandbox *s, uint64_t ms) {
        uv_timer_start(&s->timer, on_look_timer, ms, 0);
}

/* Its place is free; but that may be because all are ended now, so the next one has it in a while only. */
static void end_look(struct modal_sandbox *s) {
        struct modal *m = modal_sandbox_modal(s);
        struct modal_sandbox *next;

        list_remove(&s->link_look);
        if (!s->look)
                return;
        modal_call_cancel(TAKE_PTR(s->look));
        m->n_looks--;
        next = list_first(&m->unlooked, struct modal_sandbox, link_look);
        if (next)
                look_later(next, LOOK_AGAIN_MS);
}

static int pack_look(void *owner, struct buf *out) {
        struct modal_sandbox *s = owner;

        s->looked_us = clock_now();
        s->look_secs = list_empty(&modal_sandbox_modal(s)->unlooked) ? LOOK_SECS : LOOK_LEAST_SECS;
        return modal_pack_wait(out, s->sandbox.id, s->look_secs);
}

static void take_look(struct modal_sandbox *s, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_result result = {};
        bool waited = clock_now() - s->looked_us >= s->look_secs * (USEC_PER_SEC / 2);
        bool over = status->code == GRPC_NOT_FOUND ||
                    (status->code == GRPC_OK && modal_read_wait(reply, len, &result) == 0 &&
                     result.status != MODAL_RESULT_NONE);
        char what[320];

        if (!over && status->code == GRPC_OK && waited) {
                modal_sandbox_look(s);
        } else if (!over) {
                look_later(s, LOOK_INTERVAL_MS);
        } else if (!list_empty(&s->processes.listened)) {
                look_later(s, LOOK_AGAIN_MS); /* they find out by themselves, with what they still said */
        } else if (status->code == GRPC_NOT_FOUND) {
                modal_sandbox_lost(s, status->message);
        } else {
                snprintf(what, sizeof(what), "%s%s%s", modal_result_name(result.status), *result.text ? ": " : "",
                         result.text);
                modal_sandbox_lost(s, what);
        }
}

static void on_look(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_sandbox *s = owner;
        struct modal *m = modal_sandbox_modal(s);

        s->look = NULL;
        m->n_looks--;
        if (!s->dying)
                take_look(s, status, reply, len);
        look_next(m);
}

static int look(struct modal_sandbox *s) {
        return modal_call_start(&modal_sandbox_modal(s)->control,
                                &(struct modal_call_spec){
                                        .method = "SandboxWait",
                                        .group = HTTP_CALLS,
                                        .attempt_us = CALL_TIMEOUT_US + (int64_t)LOOK_SECS * USEC_PER_SEC,
                                        .tries = CALL_TRIES,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack_look,
                                        .done = on_look,
                                },
                                s, &s->look);
}

static void look_next(struct modal *m) {
        struct modal_sandbox *s;

        while (m->n_looks < LOOKS_MAX && (s = list_first(&m->unlooked, struct modal_sandbox, link_look))) {
                list_remove(&s->link_look);
                if (look(s) == 0)
                        m->n_looks++;
                else
                        look_later(s, LOOK_INTERVAL_MS);
        }
}

void modal_sandbox_quiet(struct modal_sandbox *s) {
        end_look(s);
        modal_hold_probe_cancel(&s->processes.hold_probe);
        if (s->process)
                modal_process_cancel(TAKE_PTR(s->process));
        if (s->existence)
                modal_process_cancel(TAKE_PTR(s->existence));
        modal_processes_forget(&s->processes);
        uv_timer_stop(&s->timer);
        uv_timer_stop(&s->soon);
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

static int clean(struct modal_sandbox *s, const char *workdir) {
        const struct modal *m = modal_sandbox_modal(s);
        struct buf volumes = BUF_INIT(SCRIPT_SIZE_MAX);
        struct script script;
        int r = 0;

        for (size_t i = 0; i < m->n_volumes && r == 0; i++)
                r = buf_printf(&volumes, "%s ", m->volumes[i].path);
        buf_clear(&s->said);
        script_init(&script);
        if (r == 0)
                r = script_make_clean(&script, workdir, buf_text(&s->kept), buf_text(&volumes));
        buf_deinit(&volumes);
        return modal_run_script(&s->processes, &script, r, &(struct modal_process_spec){}, &clean_events, s, &s->process);
}

int modal_clean(struct sandbox *sandbox, const char *workdir) {
        struct modal_sandbox *s = modal_sandbox_of(sandbox);

        if (s->existence)
                modal_process_cancel(TAKE_PTR(s->existence));
        modal_processes_cancel(&s->processes); /* signals that are still under way */
        if (s->start_unsure)
                return -EIO;
        if (list_empty(&s->processes.unanswered))
                return clean(s, workdir);
        s->to_clean = strdup(workdir);
        return s->to_clean ? 0 : -ENOMEM;
}

/* What may be started after the clean-up would be there in the next lease. */
static void on_start_known(struct modal_processes *t, bool sure) {
        struct modal_sandbox *s = of_processes(t);
        _cleanup_(cleanup_free) char *workdir = NULL;
        struct result why;

        if (!sure)
                s->start_unsure = true;
        if (!s->to_clean || !list_empty(&s->processes.unanswered))
                return;
        workdir = TAKE_PTR(s->to_clean);
        if (s->start_unsure)
                result_set(&why, RESULT_FAILED, "environment %s: nobody knows whether its job was started", s->sandbox.id);
        else if (clean(s, workdir) == 0)
                return;
        else
                result_set(&why, RESULT_FAILED, "environment %s: out of memory", s->sandbox.id);
        sandbox_cleaned(&s->sandbox, &why);
}
