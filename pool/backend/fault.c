/* SPDX-License-Identifier: MIT */
#include "pool/backend/fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/util/cleanup.h"
#include "pool/util/log.h"
#include "pool/util/random.h"

#define DELAY_MAX_MS 50

enum kind {
        FAULT_CREATE,
        FAULT_REFUSE,
        FAULT_CLEAN,
        FAULT_CHANGE,
        FAULT_IDLE,
        FAULT_DEATH,
        FAULT_DELAY,
        FAULT_SNAPSHOT,
        N_KINDS,
};

static const char *const kind_names[N_KINDS] = { "create", "refuse", "clean", "change", "idle", "death", "delay", "snapshot" };

struct fault {
        struct backend backend;
        uv_loop_t *loop;
        uint64_t random; /* the generator's state */
        double rate[N_KINDS];
};

/* An answer that is given from the loop, with or without a delay, never from inside the call. */
struct fault_sandbox {
        struct sandbox sandbox;
        struct sandbox *inner; /* NULL: its creation was made to fail, or it has ended */
        uv_timer_t timer;
        void (*later)(struct fault_sandbox *s);
        struct result result;
        struct sandbox_changes changes; /* of the clean-up */
        struct snapshot_call snapshot;  /* of the one below */
};

struct fault_exec {
        struct exec exec;
        struct exec *inner; /* NULL: the sandbox was made to die first, or it has ended */
        uv_timer_t timer;
        bool over; /* it has ended, and that is told later */
        struct result result;
        int code;
};

static struct fault *fault_of(struct backend *b) {
        return container_of(b, struct fault, backend);
}

static bool strikes(struct fault *f, enum kind kind) {
        /* Always draw a number, so that one rate does not change the faults of the others. */
        return (double)(random_next(&f->random) >> 11) * 0x1.0p-53 < f->rate[kind];
}

static uint64_t delay_ms(struct fault *f) {
        uint64_t ms = random_below(&f->random, DELAY_MAX_MS);

        return strikes(f, FAULT_DELAY) ? ms : 0;
}

/* sandboxes */

static void on_sandbox_timer(uv_timer_t *timer) {
        struct fault_sandbox *s = timer->data;

        s->later(s);
}

static void answer_later(struct fault_sandbox *s, void (*later)(struct fault_sandbox *s), uint64_t ms) {
        s->later = later;
        uv_timer_start(&s->timer, on_sandbox_timer, ms, 0);
}

static void give_created(struct fault_sandbox *s) {
        sandbox_created(&s->sandbox, &s->result);
}

static void give_cleaned(struct fault_sandbox *s) {
        if (s->sandbox.cleaning)
                sandbox_cleaned(&s->sandbox, &s->result, &s->changes);
}

static void give_died(struct fault_sandbox *s) {
        if (s->sandbox.state == SANDBOX_LIVE)
                sandbox_died(&s->sandbox, &s->result);
}

static void on_sandbox_closed(uv_handle_t *h) {
        struct fault_sandbox *s = h->data;

        free(s);
}

static void give_destroyed(struct fault_sandbox *s) {
        uv_timer_stop(&s->timer);
        sandbox_destroyed(&s->sandbox, &s->result);
        uv_close((uv_handle_t *)&s->timer, on_sandbox_closed);
}

static void take_names(struct fault_sandbox *s) {
        memcpy(s->sandbox.id, s->inner->id, sizeof(s->sandbox.id));
        s->sandbox.resume_token = s->inner->resume_token;
        s->sandbox.expires_us = s->inner->expires_us;
        s->sandbox.serial = s->inner->serial;
        s->sandbox.plain = s->inner->plain;
        s->sandbox.one_user = s->inner->one_user;
}

static void on_created(void *owner, const struct result *r) {
        struct fault_sandbox *s = owner;

        if (s->sandbox.state != SANDBOX_CREATING)
                return;
        take_names(s);
        s->result = *r;
        answer_later(s, give_created, delay_ms(fault_of(s->sandbox.backend)));
}

static void on_died(void *owner, const struct result *why) {
        struct fault_sandbox *s = owner;

        s->result = *why;
        if (s->sandbox.state == SANDBOX_CREATING) /* the answer to its create is still being delayed */
                answer_later(s, give_created, 0);
        else
                give_died(s);
}

static void on_cleaned(void *owner, const struct result *r, const struct sandbox_changes *changes) {
        struct fault_sandbox *s = owner;

        take_names(s); /* the resume token may be another now */
        s->result = *r;
        s->changes = *changes;
        answer_later(s, give_cleaned, delay_ms(fault_of(s->sandbox.backend)));
}

static void on_destroyed(void *owner, const struct result *r) {
        struct fault_sandbox *s = owner;

        s->inner = NULL;
        s->result = *r;
        give_destroyed(s);
}

static const struct sandbox_events inner_sandbox_events = {
        .created = on_created,
        .died = on_died,
        .cleaned = on_cleaned,
        .destroyed = on_destroyed,
};

/* @resume_token: of one to be adopted, else NULL. */
static int make_sandbox(struct fault *f, const char *nonce, const char *resume_token, bool unused, struct sandbox **out) {
        bool fails = !resume_token && strikes(f, FAULT_CREATE), refused = !resume_token && strikes(f, FAULT_REFUSE);
        struct fault_sandbox *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        if (fails || refused) {
                snprintf(s->sandbox.id, sizeof(s->sandbox.id), "fault");
                result_set(&s->result, refused ? RESULT_INVALID : RESULT_FAILED, "injected fault: create %s",
                           refused ? "refused" : "failed");
        } else {
                r = resume_token ? sandbox_adopt(f->backend.inner, nonce, resume_token, unused, &inner_sandbox_events, s,
                                                 &s->inner)
                           : sandbox_create(f->backend.inner, nonce, &inner_sandbox_events, s, &s->inner);
                if (r < 0) {
                        free(s);
                        return r;
                }
                take_names(s);
        }
        uv_timer_init(f->loop, &s->timer);
        s->timer.data = s;
        if (!s->inner)
                answer_later(s, give_created, delay_ms(f));
        *out = &s->sandbox;
        return 0;
}

static int fault_create(struct backend *b, const char *nonce, struct sandbox **out) {
        return make_sandbox(fault_of(b), nonce, NULL, false, out);
}

static int fault_adopt(struct backend *b, const char *nonce, const char *resume_token, bool unused, struct sandbox **out) {
        return make_sandbox(fault_of(b), nonce, resume_token, unused, out);
}

static void fault_leave(struct sandbox *sandbox) {
        struct fault_sandbox *s = container_of(sandbox, struct fault_sandbox, sandbox);

        uv_timer_stop(&s->timer);
        if (s->inner) {
                sandbox_leave(s->inner);
                return;
        }
        s->result = (struct result){};
        answer_later(s, give_destroyed, 0);
}

static void fault_destroy(struct sandbox *sandbox) {
        struct fault_sandbox *s = container_of(sandbox, struct fault_sandbox, sandbox);

        uv_timer_stop(&s->timer);
        if (s->inner) {
                sandbox_destroy(s->inner);
                return;
        }
        s->result = (struct result){};
        answer_later(s, give_destroyed, 0);
}

static bool fault_is_single_use(const struct sandbox *sandbox) {
        const struct fault_sandbox *s = container_of(sandbox, struct fault_sandbox, sandbox);

        return s->inner && sandbox_is_single_use(s->inner);
}

static int fault_clean(struct sandbox *sandbox, const char *workdir) {
        struct fault_sandbox *s = container_of(sandbox, struct fault_sandbox, sandbox);
        struct fault *f = fault_of(sandbox->backend);

        s->changes = (struct sandbox_changes){};
        if (strikes(f, FAULT_IDLE)) {
                result_set(&s->result, RESULT_LOST, "injected fault: environment %s died", sandbox->id);
                answer_later(s, give_died, delay_ms(f));
                return 0;
        }
        if (strikes(f, FAULT_CLEAN)) {
                result_set(&s->result, RESULT_FAILED, "injected fault: clean-up failed");
                answer_later(s, give_cleaned, delay_ms(f));
                return 0;
        }
        if (strikes(f, FAULT_CHANGE)) {
                s->result = (struct result){};
                sandbox_changes_add(&s->changes, "/injected-fault");
                answer_later(s, give_cleaned, delay_ms(f));
                return 0;
        }
        return sandbox_clean(s->inner, workdir);
}

/* snapshots */

static void give_snapshotted(struct fault_sandbox *s) {
        sandbox_snapshotted(&s->sandbox, &s->result, NULL);
}

/* Where it works, its answer is not put off: the timer may be needed for something else meanwhile. */
static void on_snapshotted(struct snapshot_call *c, const struct result *r, const char *image) {
        struct fault_sandbox *s = container_of(c, struct fault_sandbox, snapshot);

        sandbox_snapshotted(&s->sandbox, r, image);
}

static int fault_snapshot(struct sandbox *sandbox, const char *id) {
        struct fault_sandbox *s = container_of(sandbox, struct fault_sandbox, sandbox);
        struct fault *f = fault_of(sandbox->backend);

        s->snapshot.done = on_snapshotted;
        if (!strikes(f, FAULT_SNAPSHOT))
                return sandbox_snapshot(s->inner, id, &s->snapshot);
        result_set(&s->result, RESULT_FAILED, "injected fault: snapshot failed");
        answer_later(s, give_snapshotted, delay_ms(f));
        return 0;
}

static int fault_delete_snapshot(struct backend *b, const char *id, const char *image, struct snapshot_deletion *d) {
        return backend_delete_snapshot(b->inner, id, image, d);
}

/* execs */

static void on_exec_closed(uv_handle_t *h) {
        struct fault_exec *e = h->data;

        free(e);
}

static void on_exec_timer(uv_timer_t *timer) {
        struct fault_exec *e = timer->data;

        if (e->exec.held)
                return; /* it comes when the output is given again */
        exec_ended(&e->exec, &e->result, e->code);
        uv_close((uv_handle_t *)&e->timer, on_exec_closed);
}

static void on_exec_started(void *owner) {
        struct fault_exec *e = owner;

        exec_started(&e->exec);
}

static void on_exec_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct fault_exec *e = owner;

        exec_output(&e->exec, stream, data, len);
}

static void on_exec_ended(void *owner, const struct result *r, int code) {
        struct fault_exec *e = owner;

        e->inner = NULL;
        e->over = true;
        e->result = *r;
        e->code = code;
        uv_timer_start(&e->timer, on_exec_timer, delay_ms(fault_of(e->exec.sandbox->backend)), 0);
}

static void on_exec_room(void *owner) {
        struct fault_exec *e = owner;

        exec_room(&e->exec);
}

static bool on_exec_read_input(void *owner, uint64_t offset, void *data, size_t len) {
        struct fault_exec *e = owner;

        return e->exec.events->read_input(e->exec.owner, offset, data, len);
}

static void on_exec_input_taken(void *owner, uint64_t offset, bool closed) {
        struct fault_exec *e = owner;

        exec_input_taken(&e->exec, offset, closed);
}

static void on_exec_polled(void *owner, bool running) {
        struct fault_exec *e = owner;

        exec_polled(&e->exec, running);
}

static const struct exec_events inner_exec_events = {
        .started = on_exec_started,
        .output = on_exec_output,
        .ended = on_exec_ended,
        .polled = on_exec_polled,
        .room = on_exec_room,
        .read_input = on_exec_read_input,
        .input_taken = on_exec_input_taken,
};

static int fault_exec(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out) {
        struct fault_sandbox *s = container_of(sandbox, struct fault_sandbox, sandbox);
        struct fault *f = fault_of(sandbox->backend);
        struct fault_exec *e = calloc(1, sizeof(*e));
        int r;

        if (!e)
                return -ENOMEM;
        e->exec.sandbox = sandbox;
        if (strikes(f, FAULT_DEATH)) {
                result_set(&s->result, RESULT_LOST, "injected fault: environment %s died", sandbox->id);
                answer_later(s, give_died, delay_ms(f));
        } else {
                r = sandbox_exec(s->inner, spec, &inner_exec_events, e, &e->inner);
                if (r < 0) {
                        free(e);
                        return r;
                }
        }
        uv_timer_init(f->loop, &e->timer);
        e->timer.data = e;
        *out = &e->exec;
        return 0;
}

static void fault_exec_signal(struct exec *exec, int signo) {
        struct fault_exec *e = container_of(exec, struct fault_exec, exec);

        if (e->inner)
                exec_signal(e->inner, signo);
}

static int fault_exec_poll(struct exec *exec) {
        struct fault_exec *e = container_of(exec, struct fault_exec, exec);

        return e->inner ? exec_poll(e->inner) : 0;
}

/* The sandbox was made to die first, or the end is being delayed: nothing reads it. */
static ssize_t fault_exec_write(struct exec *exec, const void *data, size_t len) {
        struct fault_exec *e = container_of(exec, struct fault_exec, exec);

        return e->inner ? exec_write(e->inner, data, len) : -EPIPE;
}

static void fault_exec_end_input(struct exec *exec) {
        struct fault_exec *e = container_of(exec, struct fault_exec, exec);

        if (e->inner)
                exec_end_input(e->inner);
}

static void fault_exec_offer_input(struct exec *exec, uint64_t size, bool end) {
        struct fault_exec *e = container_of(exec, struct fault_exec, exec);

        if (e->inner)
                exec_offer_input(e->inner, size, end);
}

static void fault_exec_resize(struct exec *exec, uint16_t rows, uint16_t columns) {
        struct fault_exec *e = container_of(exec, struct fault_exec, exec);

        if (e->inner)
                exec_resize(e->inner, rows, columns);
}

static void fault_exec_hold_output(struct exec *exec) {
        struct fault_exec *e = container_of(exec, struct fault_exec, exec);

        if (e->inner)
                exec_hold_output(e->inner, exec->held);
        else if (!exec->held && e->over)
                uv_timer_start(&e->timer, on_exec_timer, 0, 0);
}

static void fault_exec_kill(struct exec *exec, int64_t grace_us) {
        struct fault_exec *e = container_of(exec, struct fault_exec, exec);

        if (e->inner)
                exec_kill(e->inner, grace_us);
}

static void fault_exec_cancel(struct exec *exec) {
        struct fault_exec *e = container_of(exec, struct fault_exec, exec);

        if (e->inner)
                exec_cancel(e->inner);
        uv_close((uv_handle_t *)&e->timer, on_exec_closed);
}

static int fault_connect(struct sandbox *sandbox, const struct connection_spec *spec, struct connection *c) {
        struct fault_sandbox *s = container_of(sandbox, struct fault_sandbox, sandbox);

        return s->inner ? sandbox_connect(s->inner, spec, c) : -ENODEV;
}

static int fault_file_call(struct sandbox *sandbox, const struct file_call_args *args, struct file_call *c) {
        struct fault_sandbox *s = container_of(sandbox, struct fault_sandbox, sandbox);

        return s->inner ? sandbox_file_call(s->inner, args, c) : -ENODEV;
}

/* the backend */

static void on_inner_ready(void *owner, const struct result *r) {
        struct fault *f = owner;

        backend_ready(&f->backend, r);
}

static void on_inner_notice(void *owner, const char *line) {
        struct fault *f = owner;

        backend_notice(&f->backend, line);
}

static void on_inner_found(void *owner, const struct sandbox_found *found) {
        struct fault *f = owner;

        backend_found(&f->backend, found);
}

static void on_inner_listed(void *owner, const struct result *r) {
        struct fault *f = owner;

        backend_listed(&f->backend, r);
}

static const struct backend_events inner_backend_events = {
        .ready = on_inner_ready,
        .notice = on_inner_notice,
        .found = on_inner_found,
        .listed = on_inner_listed,
};

static int fault_start(struct backend *b, enum backend_use use) {
        return backend_start(b->inner, use, &inner_backend_events, fault_of(b));
}

static int fault_list(struct backend *b) {
        return backend_list(b->inner);
}

static void fault_free(struct backend *b) {
        backend_free(b->inner);
        free(fault_of(b));
}

static const struct backend_ops fault_ops = {
        .name = "fault",
        .start = fault_start,
        .free = fault_free,
        .create = fault_create,
        .adopt = fault_adopt,
        .list = fault_list,
        .leave = fault_leave,
        .destroy = fault_destroy,
        .is_single_use = fault_is_single_use,
        .clean = fault_clean,
        .snapshot = fault_snapshot,
        .delete_snapshot = fault_delete_snapshot,
        .exec = fault_exec,
        .file_call = fault_file_call,
        .connect = fault_connect,
        .exec_signal = fault_exec_signal,
        .exec_poll = fault_exec_poll,
        .exec_write = fault_exec_write,
        .exec_end_input = fault_exec_end_input,
        .exec_offer_input = fault_exec_offer_input,
        .exec_resize = fault_exec_resize,
        .exec_hold_output = fault_exec_hold_output,
        .exec_kill = fault_exec_kill,
        .exec_cancel = fault_exec_cancel,
};

static int parse_rates(struct fault *f, char *rates, struct result *why) {
        for (char *one; (one = strsep(&rates, "+"));) {
                char *colon = strchr(one, ':'), *end;
                int kind = N_KINDS;
                double rate = -1;

                if (colon) {
                        *colon++ = '\0';
                        rate = strtod(colon, &end);
                        if (end == colon || *end)
                                rate = -1;
                        for (kind = 0; kind < N_KINDS && strcmp(one, kind_names[kind]); kind++)
                                ;
                }
                if (kind == N_KINDS || !(rate >= 0 && rate <= 1)) {
                        if (colon)
                                colon[-1] = ':';
                        result_set(why, RESULT_INVALID,
                                   "option fault: \"%s\": expected KIND:RATE, joined by +, with KIND one of create, "
                                   "refuse, clean, change, idle, death, delay, and RATE from 0 to 1",
                                   one);
                        return -EINVAL;
                }
                f->rate[kind] = rate;
        }
        return 0;
}

int fault_new(struct backend **backend, uv_loop_t *loop, const char *rates, uint64_t seed, struct result *why) {
        _cleanup_(cleanup_free) char *copy = strdup(rates);
        _cleanup_(cleanup_free) struct fault *f = calloc(1, sizeof(*f));
        int r;

        if (!f || !copy)
                return -ENOMEM;
        f->backend.ops = &fault_ops;
        f->loop = loop;
        f->random = seed;
        r = parse_rates(f, copy, why);
        if (r < 0)
                return r;
        log_warning("faults are injected: %s, seed %llu", rates, (unsigned long long)seed);
        f->backend.inner = *backend;
        backend_attach(&f->backend, (*backend)->client);
        *backend = &TAKE_PTR(f)->backend;
        return 0;
}
