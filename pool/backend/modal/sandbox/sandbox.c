/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/exec/run-script.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/sandbox/resume-token.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

static struct modal_template *template_of(struct modal_sandbox *s) {
        return modal_template_of(s->sandbox.backend);
}

/* its memory */

static void on_handle_closed(uv_handle_t *handle) {
        struct modal_sandbox *s = handle->data;

        if (--s->n_handles > 0)
                return;
        modal_liveness_deinit(&s->liveness);
        modal_terminate_deinit(&s->terminate);
        modal_cleanup_deinit(&s->cleanup);
        result_drop(&s->why);
        free(s->resume_token);
        free(s);
}

/* Its memory goes with the next turns of the loop. */
static void close_handles(struct modal_sandbox *s) {
        uv_timer_t *timers[] = { &s->soon, &s->create.timer, &s->liveness.timer, &s->terminate.timer };

        s->n_handles = sizeof(timers) / sizeof(timers[0]);
        for (size_t i = 0; i < sizeof(timers) / sizeof(timers[0]); i++) {
                timers[i]->data = s;
                uv_close((uv_handle_t *)timers[i], on_handle_closed);
        }
}

/* Nothing of it is heard of any more, but for a create that is under way. */
static void stop(struct modal_sandbox *s) {
        modal_liveness_stop(&s->liveness);
        modal_cleanup_cancel(&s->cleanup);
        modal_snapshot_cancel(&s->snapshot);
        if (s->existence)
                modal_process_cancel(TAKE_PTR(s->existence));
        modal_processes_forget(&s->processes);
        uv_timer_stop(&s->soon);
}

static void gone(struct modal_sandbox *s, const struct result *r) {
        modal_create_cancel(&s->create);
        modal_router_deinit(&s->router);
        modal_identity_deinit(&s->identity); /* now, as the client may go before our memory does */
        sandbox_destroyed(&s->sandbox, r);
        close_handles(s);
}

/* it is lost */

static void on_soon(uv_timer_t *timer) {
        struct modal_sandbox *s = timer->data;
        struct result why = result_saved(&s->why);

        switch (s->sandbox.state) {
        case SANDBOX_CREATING:
                modal_create_cancel(&s->create);
                sandbox_created(&s->sandbox, &why);
                break;
        case SANDBOX_LIVE:
                sandbox_died(&s->sandbox, &why);
                break;
        case SANDBOX_FAILED:
        case SANDBOX_DEAD:
        case SANDBOX_ENDING:
        case SANDBOX_GONE:
                break;
        }
}

/* Say from a clean stack that it cannot be used. */
static void fail_soon(struct modal_sandbox *s, const struct result *why) {
        result_save(&s->why, why);
        s->lost = true;
        modal_processes_lost(&s->processes);
        modal_liveness_stop(&s->liveness);
        uv_timer_start(&s->soon, on_soon, 0, 0);
}

static bool is_over(const struct modal_sandbox *s) {
        return s->lost || (s->sandbox.state != SANDBOX_CREATING && s->sandbox.state != SANDBOX_LIVE);
}

static void lost(struct modal_sandbox *s, const char *what) {
        struct result why;

        if (is_over(s))
                return;
        result_set(&why, RESULT_LOST, "environment %s is gone: %s", s->sandbox.id, what);
        modal_client_scrub(template_of(s)->control->client, why.text);
        fail_soon(s, &why);
}

/* It has ended, as somebody says who does not know why: Modal is asked for the cause. */
static void ended(struct modal_sandbox *s, const char *what) {
        if (is_over(s))
                return;
        modal_processes_lost(&s->processes);
        modal_liveness_ended(&s->liveness, what);
}

/* The control plane says that its task has ended. */
static void on_router_gone(struct modal_router *router, const struct grpc_status *status) {
        ended(container_of(router, struct modal_sandbox, router), status->message);
}

static void on_liveness_lost(struct modal_liveness *l, const char *what) {
        lost(container_of(l, struct modal_sandbox, liveness), what);
}

/* processes */

static struct modal_sandbox *of_processes(struct modal_processes *t) {
        return container_of(t, struct modal_sandbox, processes);
}

static void on_processes_lost(struct modal_processes *t, const char *what) {
        ended(of_processes(t), what);
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
                lost(s, "its state cannot be asked for: out of memory");
}

static void on_start_known(struct modal_processes *t, bool sure) {
        modal_cleanup_start_known(&of_processes(t)->cleanup, sure);
}

static const struct modal_processes_events processes_events = {
        .lost = on_processes_lost,
        .unknown = on_unknown,
        .start_known = on_start_known,
};

/* it comes to us */

static struct modal_sandbox *of_create(struct modal_create *c) {
        return container_of(c, struct modal_sandbox, create);
}

static void make_resume_token(struct modal_sandbox *s) {
        int r = modal_resume_token_make(
                &(struct modal_resume_token){
                        .id = s->sandbox.id,
                        .task_id = s->identity.task_id,
                        .sandbox_token = s->identity.token.text ?: "",
                        .began_wall_us = s->identity.began_wall_us,
                        .lifetime_secs = s->identity.lifetime_secs,
                        .kept = buf_text(&s->identity.own),
                },
                &s->resume_token);

        if (r < 0)
                log_warning("environment=%s: it will not outlive this run: %s", s->sandbox.id, strerror(-r));
        s->sandbox.resume_token = s->resume_token;
}

static void on_created(struct modal_create *c, const struct result *r) {
        struct modal_sandbox *s = of_create(c);

        if (result_ok(r)) {
                make_resume_token(s);
                s->sandbox.expires_us = s->identity.began_us + s->identity.lifetime_secs * USEC_PER_SEC;
        }
        sandbox_created(&s->sandbox, r);
        if (s->sandbox.state == SANDBOX_LIVE && !s->lost)
                modal_liveness_start(&s->liveness);
}

static void on_answered(struct modal_create *c) {
        struct modal_sandbox *s = of_create(c);

        modal_terminate_answered(&s->terminate, c->unsure);
}

static const struct modal_create_events create_events = {
        .created = on_created,
        .answered = on_answered,
};

/* it goes */

static void on_settled(struct modal_terminate *t) {
        modal_create_cancel(&container_of(t, struct modal_sandbox, terminate)->create);
}

static void on_terminated(struct modal_terminate *t, const struct result *r) {
        gone(container_of(t, struct modal_sandbox, terminate), r);
}

static const struct modal_terminate_events terminate_events = {
        .settled = on_settled,
        .done = on_terminated,
};

void modal_sandbox_destroy(struct sandbox *sandbox) {
        struct modal_sandbox *s = modal_sandbox_of(sandbox);
        bool pending = modal_create_withdraw(&s->create);

        stop(s);
        modal_terminate_start(&s->terminate, pending, s->create.unsure);
}

static void on_left(uv_timer_t *timer) {
        struct result ok = {};

        gone(timer->data, &ok);
}

void modal_sandbox_leave(struct sandbox *sandbox) {
        struct modal_sandbox *s = modal_sandbox_of(sandbox);

        modal_create_cancel(&s->create);
        stop(s);
        uv_timer_start(&s->soon, on_left, 0, 0);
}

/* clean-up */

static void on_cleaned(struct modal_cleanup *c, const struct result *r) {
        sandbox_cleaned(&container_of(c, struct modal_sandbox, cleanup)->sandbox, r, NULL);
}

/* The clean-up cannot compare. */
bool modal_sandbox_is_single_use(const struct sandbox *sandbox) {
        return modal_template_of(sandbox->backend)->compare;
}

int modal_sandbox_clean(struct sandbox *sandbox, const char *workdir) {
        struct modal_sandbox *s = modal_sandbox_of(sandbox);

        if (s->existence)
                modal_process_cancel(TAKE_PTR(s->existence));
        return modal_cleanup_start(&s->cleanup, workdir);
}

/* snapshots */

static void on_snapshotted(struct modal_snapshot *snapshot, const struct result *r, const char *image) {
        sandbox_snapshotted(&container_of(snapshot, struct modal_sandbox, snapshot)->sandbox, r, image);
}

int modal_sandbox_snapshot(struct sandbox *sandbox, const char *id) {
        struct modal_sandbox *s = modal_sandbox_of(sandbox);

        s->snapshot.identity = &s->identity;
        s->snapshot.done = on_snapshotted;
        return modal_snapshot_start(&s->snapshot, &s->router.endpoint, id, template_of(s)->settings.snapshot_ttl_secs);
}

/* new ones */

static bool tmp_is_volume(const struct modal_settings *settings) {
        for (size_t i = 0; i < settings->n_volumes; i++)
                if (!strcmp(settings->volumes[i].path, "/tmp") || !strcmp(settings->volumes[i].path, "/tmp/"))
                        return true;
        return false;
}

static struct modal_sandbox *sandbox_new(struct backend *b, const char *nonce) {
        struct modal_sandbox *s = calloc(1, sizeof(*s));
        struct modal_template *t = modal_template_of(b);

        if (!s)
                return NULL;
        s->sandbox.backend = b;
        s->sandbox.serial = true; /* a kill tells a job's processes from another's by when they began */
        s->sandbox.tmp_is_shared = tmp_is_volume(&t->settings);
        snprintf(s->identity.nonce, sizeof(s->identity.nonce), "%s", nonce);
        s->identity.id = s->sandbox.id;
        s->identity.began_us = clock_now();
        s->identity.began_wall_us = clock_read_us(CLOCK_REALTIME);
        s->identity.lifetime_secs = t->settings.definition.lifetime_secs;
        s->identity.own = (struct buf)BUF_INIT(PROBE_SIZE_MAX);
        modal_router_init(&s->router, t->control, &s->identity, on_router_gone);
        modal_processes_init(&s->processes, &processes_events, &s->router.endpoint, &s->identity);
        modal_create_init(&s->create, &create_events, t, &s->identity, &s->router, &s->processes);
        modal_liveness_init(&s->liveness, t->liveness_queue, t->control, &s->identity, &s->processes, on_liveness_lost);
        modal_cleanup_init(&s->cleanup, t, &s->identity, &s->processes, on_cleaned);
        modal_terminate_init(&s->terminate, &terminate_events, t, &s->identity);
        uv_timer_init(t->control->client->loop, &s->soon);
        uv_unref((uv_handle_t *)&s->soon);
        s->soon.data = s;
        return s;
}

int modal_sandbox_create(struct backend *b, const char *nonce, struct sandbox **out) {
        struct modal_sandbox *s = sandbox_new(b, nonce);
        int r;

        if (!s)
                return -ENOMEM;
        r = modal_create_start(&s->create);
        if (r < 0) {
                modal_identity_deinit(&s->identity);
                close_handles(s);
                return r;
        }
        *out = &s->sandbox;
        return 0;
}

int modal_sandbox_adopt(struct backend *b, const char *nonce, const char *resume_token, bool unused,
                           struct sandbox **out) {
        struct modal_sandbox *s = sandbox_new(b, nonce);
        struct result why;
        int r = 0;

        if (!s)
                return -ENOMEM;
        if (*resume_token) {
                r = modal_create_adopt(&s->create, resume_token);
        } else {
                s->create.unsure = true; /* no create is under way whose answer could be waited for */
                result_set(&why, RESULT_FAILED, "an earlier run never heard whether a sandbox was made");
                fail_soon(s, &why);
        }
        if (r < 0) {
                modal_identity_deinit(&s->identity);
                close_handles(s);
                return r;
        }
        *out = &s->sandbox;
        return 0;
}
