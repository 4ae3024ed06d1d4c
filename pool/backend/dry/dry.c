/* SPDX-License-Identifier: MIT */
#include "pool/backend/dry/dry.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/util/clock.h"

#define HEAD_MAX (4 << 20)    /* bytes of what is printed before the command */
#define DRY_IMAGE "dry"         /* the name of every snapshot */
#define PIECE_SIZE (64 << 10) /* bytes of the command that are printed at once */

struct dry_options {
        int64_t create_us, exec_us;
};

#define AT(field) offsetof(struct dry_options, field)

static const struct option_row rows[] = {
        { "dry_create", OPTION_SECONDS, AT(create_us), "0",
          .help = "seconds that creating an environment takes" },
        { "dry_exec", OPTION_SECONDS, AT(exec_us), "0", .help = "seconds that a job takes" },
};

const struct option_table dry_options = OPTION_TABLE(struct dry_options, "dry", rows);

struct dry_client {
        struct backend_client client;
        uv_loop_t *loop;
        unsigned last_number; /* of a sandbox */
};

struct dry {
        struct backend backend;
        struct dry_client *client;
        struct dry_options options;
        uv_timer_t timer; /* of the start */
};

/* Its state says which answer the timer brings. */
struct dry_sandbox {
        struct sandbox sandbox;
        uv_timer_t timer;
};

struct dry_exec {
        struct exec exec;
        uv_timer_t timer; /* of what comes next: the start, the answer to a poll, the end */
        bool polled, ran; /* a poll is to be answered, with this */
        bool reading;     /* live input */
        int64_t ends_us;  /* not earlier */
        int signo;        /* that ended it; 0: none */
        uint64_t n_input; /* bytes that it read */
        struct buf head;  /* to be printed before the command */
        int command;      /* a descriptor: what is left of it is to be printed */
};

/*
 * Events come from the loop, never from inside a call. And from a later turn: where many jobs are queued, they must not
 * all run in one turn, in which nothing else is answered. The loop counts from the beginning of its turn, we from now.
 */
static void start_timer(uv_timer_t *timer, uv_timer_cb then, int64_t us) {
        uint64_t turn_ms = uv_hrtime() / 1000000 - uv_now(timer->loop);

        uv_timer_start(timer, then, turn_ms + us / USEC_PER_MSEC + 1, 0);
}

static struct dry *dry_of(struct backend *b) {
        return container_of(b, struct dry, backend);
}

/* sandboxes */

static void on_sandbox_closed(uv_handle_t *handle) {
        free(container_of((uv_timer_t *)handle, struct dry_sandbox, timer));
}

static void on_sandbox_timer(uv_timer_t *timer) {
        struct sandbox *s = &container_of(timer, struct dry_sandbox, timer)->sandbox;
        struct result ok = {};

        switch (s->state) {
        case SANDBOX_CREATING:
                sandbox_created(s, &ok);
                break;
        case SANDBOX_LIVE:
                if (s->snapshot)
                        sandbox_snapshotted(s, &ok, DRY_IMAGE);
                else
                        sandbox_cleaned(s, &ok, NULL);
                break;
        case SANDBOX_ENDING:
                sandbox_destroyed(s, &ok);
                uv_close((uv_handle_t *)timer, on_sandbox_closed);
                break;
        case SANDBOX_FAILED:
        case SANDBOX_DEAD:
        case SANDBOX_GONE:
                break;
        }
}

static void answer(struct sandbox *s, int64_t us) {
        start_timer(&container_of(s, struct dry_sandbox, sandbox)->timer, on_sandbox_timer, us);
}

static int dry_create(struct backend *b, const char *nonce, struct sandbox **out) {
        struct dry *d = dry_of(b);
        struct dry_sandbox *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "dry-%u", ++d->client->last_number);
        uv_timer_init(d->client->loop, &s->timer);
        answer(&s->sandbox, d->options.create_us);
        *out = &s->sandbox;
        return 0;
}

static void dry_destroy(struct sandbox *s) {
        answer(s, 0);
}

static int dry_clean(struct sandbox *s, const char *workdir) {
        answer(s, 0);
        return 0;
}

/* snapshots: there is nothing to copy */

struct dry_deletion {
        uv_timer_t timer;
        struct snapshot_deletion *deletion;
};

static int dry_snapshot(struct sandbox *s, const char *id) {
        answer(s, 0);
        return 0;
}

static void on_deletion_closed(uv_handle_t *handle) {
        free(container_of((uv_timer_t *)handle, struct dry_deletion, timer));
}

static void on_deleted(uv_timer_t *timer) {
        struct dry_deletion *d = container_of(timer, struct dry_deletion, timer);
        struct result ok = {};

        d->deletion->done(d->deletion, &ok);
        uv_close((uv_handle_t *)timer, on_deletion_closed);
}

static int dry_delete_snapshot(struct backend *b, const char *id, const char *image, struct snapshot_deletion *deletion) {
        struct dry_deletion *d = calloc(1, sizeof(*d));

        if (!d)
                return -ENOMEM;
        d->deletion = deletion;
        uv_timer_init(dry_of(b)->client->loop, &d->timer);
        start_timer(&d->timer, on_deleted, 0);
        return 0;
}

/* execs */

static struct dry_exec *exec_of(struct exec *exec) {
        return container_of(exec, struct dry_exec, exec);
}

static void on_exec_closed(uv_handle_t *handle) {
        struct dry_exec *e = container_of((uv_timer_t *)handle, struct dry_exec, timer);

        close(e->command);
        buf_deinit(&e->head);
        free(e);
}

/* Its owner may do so inside each event. */
static void dry_exec_cancel(struct exec *exec) {
        uv_close((uv_handle_t *)&exec_of(exec)->timer, on_exec_closed);
}

static bool is_cancelled(const struct dry_exec *e) {
        return uv_is_closing((const uv_handle_t *)&e->timer);
}

/* Once it is, it remains so. What it has printed may still be held back. */
static bool is_over(const struct dry_exec *e) {
        return e->signo || (!e->reading && e->ends_us <= clock_now());
}

static void print(struct dry_exec *e, const char *data, size_t len) {
        exec_output(&e->exec, STREAM_STDOUT, data, len);
}

/* As far as the output is not held back. 0 or -errno. */
static int print_all(struct dry_exec *e) {
        static char piece[PIECE_SIZE];
        ssize_t n = 1;
        int r = 0;

        if (e->head.len > 0) {
                r = buf_printf(&e->head, "input: %" PRIu64 " bytes\n\n", e->n_input);
                if (r == 0)
                        print(e, e->head.data, e->head.len);
                buf_clear(&e->head);
        }
        while (r == 0 && n > 0 && !is_cancelled(e) && !e->exec.held) {
                n = read(e->command, piece, sizeof(piece));
                if (n > 0)
                        print(e, piece, n);
                else if (n < 0)
                        r = -errno;
        }
        return r;
}

static void end(struct dry_exec *e) {
        struct result result = {};
        int r = e->signo ? 0 : print_all(e);

        if (is_cancelled(e) || e->exec.held)
                return;
        if (r < 0)
                result_set(&result, RESULT_FAILED, "the command cannot be printed: %s", strerror(-r));
        exec_ended(&e->exec, &result, e->signo ? 128 + e->signo : 0);
        uv_close((uv_handle_t *)&e->timer, on_exec_closed);
}

static void on_exec_timer(uv_timer_t *timer) {
        struct dry_exec *e = container_of(timer, struct dry_exec, timer);

        if (!e->exec.started) {
                e->ends_us = clock_after(clock_now(), dry_of(e->exec.sandbox->backend)->options.exec_us);
                exec_started(&e->exec);
        }
        if (!is_cancelled(e) && e->polled) {
                e->polled = false;
                exec_polled(&e->exec, e->ran);
        }
        if (is_cancelled(e))
                return;
        if (is_over(e) && !e->exec.held)
                end(e);
        else if (!is_over(e) && !e->reading)
                start_timer(timer, on_exec_timer, e->ends_us - clock_now());
}

static void go_on(struct dry_exec *e) {
        start_timer(&e->timer, on_exec_timer, 0);
}

static int fill_head(struct dry_exec *e, const struct exec_spec *spec) {
        int r = buf_printf(&e->head, "cwd: %s\n", spec->cwd);

        if (r == 0 && *spec->shell)
                r = buf_printf(&e->head, "shell: %s\n", spec->shell);
        for (const char *const *env = spec->env; r == 0 && *env; env++)
                if (strncmp(*env, EXEC_MARK "=", sizeof(EXEC_MARK)))
                        r = buf_printf(&e->head, "env: %s\n", *env);
        return r;
}

static int dry_exec(struct sandbox *s, const struct exec_spec *spec, struct exec **out) {
        struct dry_exec *e = calloc(1, sizeof(*e));
        int r;

        if (!e)
                return -ENOMEM;
        e->reading = spec->live_input;
        e->ends_us = USEC_NEVER;
        e->n_input = spec->input ? spec->input->size : 0;
        e->head = (struct buf)BUF_INIT(HEAD_MAX);
        r = fill_head(e, spec);
        if (r == 0)
                r = e->command = blob_open(spec->command);
        if (r < 0) {
                buf_deinit(&e->head);
                free(e);
                return r;
        }
        uv_timer_init(dry_of(s->backend)->client->loop, &e->timer);
        go_on(e);
        *out = &e->exec;
        return 0;
}

static bool is_fatal(int signo) {
        switch (signo) {
        case SIGCHLD:
        case SIGCONT:
        case SIGSTOP:
        case SIGTSTP:
        case SIGTTIN:
        case SIGTTOU:
        case SIGURG:
        case SIGWINCH:
                return false;
        default:
                return true;
        }
}

static void dry_exec_signal(struct exec *exec, int signo) {
        struct dry_exec *e = exec_of(exec);

        if (is_over(e) || !is_fatal(signo))
                return;
        e->signo = signo;
        go_on(e);
}

static void dry_exec_kill(struct exec *exec, int64_t grace_us) {
        dry_exec_signal(exec, grace_us > 0 ? SIGTERM : SIGKILL);
}

static int dry_exec_poll(struct exec *exec) {
        struct dry_exec *e = exec_of(exec);

        e->polled = true;
        e->ran = !is_over(e);
        go_on(e);
        return 0;
}

static ssize_t dry_exec_write(struct exec *exec, const void *data, size_t len) {
        struct dry_exec *e = exec_of(exec);

        if (is_over(e))
                return -EPIPE;
        e->n_input += len;
        return len;
}

static void dry_exec_end_input(struct exec *exec) {
        struct dry_exec *e = exec_of(exec);

        e->reading = false;
        go_on(e);
}

static void dry_exec_hold_output(struct exec *exec) {
        if (!exec->held)
                go_on(exec_of(exec));
}

/* the backend */

static void on_start(uv_timer_t *timer) {
        struct result ok = {};

        backend_ready(&container_of(timer, struct dry, timer)->backend, &ok);
}

static int dry_start(struct backend *b, enum backend_use use) {
        start_timer(&dry_of(b)->timer, on_start, 0);
        return 0;
}

static void on_closed(uv_handle_t *handle) {
        free(container_of((uv_timer_t *)handle, struct dry, timer));
}

static void dry_free(struct backend *b) {
        uv_close((uv_handle_t *)&dry_of(b)->timer, on_closed);
}

static const struct backend_ops dry_ops = {
        .name = "dry",
        .start = dry_start,
        .free = dry_free,
        .create = dry_create,
        .destroy = dry_destroy,
        .clean = dry_clean,
        .snapshot = dry_snapshot,
        .delete_snapshot = dry_delete_snapshot,
        .exec = dry_exec,
        .exec_signal = dry_exec_signal,
        .exec_poll = dry_exec_poll,
        .exec_write = dry_exec_write,
        .exec_end_input = dry_exec_end_input,
        .exec_hold_output = dry_exec_hold_output,
        .exec_kill = dry_exec_kill,
        .exec_cancel = dry_exec_cancel,
};

static void client_free(struct backend_client *client) {
        free(container_of(client, struct dry_client, client));
}

static const struct backend_client_ops client_ops = {
        .free = client_free,
};

int dry_client_new(struct backend_client **out, uv_loop_t *loop) {
        struct dry_client *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        c->client.ops = &client_ops;
        c->loop = loop;
        *out = &c->client;
        return 0;
}

int dry_new(struct backend **out, struct backend_client *client, const struct dry_options *options) {
        struct dry *d = calloc(1, sizeof(*d));

        if (!d)
                return -ENOMEM;
        d->backend.ops = &dry_ops;
        d->client = container_of(client, struct dry_client, client);
        d->options = *options;
        uv_timer_init(d->client->loop, &d->timer);
        backend_attach(&d->backend, client);
        *out = &d->backend;
        return 0;
}
