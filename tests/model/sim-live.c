/* SPDX-License-Identifier: MIT */

/*
 * A program with live input in a simulated sandbox: cat, behind a pipe on either side. It takes, and gives, any number of
 * bytes at any time, as backend.h allows, and nothing while its output is held back and its pipes are full.
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "sim-internal.h"
#include "pool/util/buf.h"

#define PIPE_SIZE 4096 /* bytes that cat and its pipes hold */

struct sim_live {
        struct exec exec; /* first */
        struct sim_sandbox *sandbox;
        struct timer step;
        struct buf kept, pipe;
        bool killed;
};

static struct sim_live *live_of(struct exec *exec) {
        return container_of(exec, struct sim_live, exec);
}

static void live_free(struct sim_live *x) {
        timer_cancel(&x->step);
        x->sandbox->live = NULL;
        buf_deinit(&x->kept);
        buf_deinit(&x->pipe);
        free(x);
}

static void on_step(struct timer *t);

static void step_later(struct sim_live *x) {
        timer_arm(&x->step, sim_any_delay(sim_backend_of(x->sandbox)), on_step);
}

static size_t some(size_t n) {
        return n == 0 ? 0 : 1 + sim_below(n);
}

static void take_input(struct sim_live *x) {
        size_t room = x->pipe.max - x->pipe.len, n = some(x->kept.len < room ? x->kept.len : room);

        if (n == 0)
                return;
        SIM_CHECK(buf_append(&x->pipe, x->kept.data, n) == 0, "no memory");
        buf_drop(&x->kept, n);
        exec_room(&x->exec);
}

static void give_output(struct sim_live *x) {
        size_t n = some(x->pipe.len);
        char piece[PIPE_SIZE];

        if (n == 0 || x->exec.held)
                return;
        memcpy(piece, x->pipe.data, n);
        buf_drop(&x->pipe, n);
        exec_output(&x->exec, STREAM_STDOUT, piece, n);
}

static void on_step(struct timer *t) {
        struct sim_live *x = container_of(t, struct sim_live, step);
        struct result ok = {};
        bool over;

        if (!x->exec.started)
                exec_started(&x->exec);
        if (x->killed)
                buf_clear(&x->pipe); /* what is in the pipes goes with it, as far as anybody may rely on */
        else
                take_input(x);
        give_output(x);
        over = x->killed || (x->exec.input_ended && x->kept.len == 0 && x->pipe.len == 0);
        if (over && !x->exec.held) {
                exec_ended(&x->exec, &ok, x->killed ? 128 + SIGKILL : 0);
                live_free(x);
        } else if (x->kept.len > 0 || (x->pipe.len > 0 && !x->exec.held)) {
                step_later(x);
        }
}

int sim_live_start(struct sim_sandbox *s, struct exec **out) {
        struct sim_live *x = calloc(1, sizeof(*x));

        if (!x)
                return -ENOMEM;
        x->sandbox = s;
        x->kept = (struct buf)BUF_INIT(EXEC_INPUT_MAX);
        x->pipe = (struct buf)BUF_INIT(PIPE_SIZE);
        s->live = x;
        step_later(x);
        *out = &x->exec;
        return 0;
}

ssize_t sim_live_write(struct exec *exec, const void *data, size_t len) {
        struct sim_live *x = live_of(exec);
        size_t room = x->kept.max - x->kept.len, n = len < room ? len : room;

        if (x->killed)
                return -EPIPE;
        SIM_CHECK(buf_append(&x->kept, data, n) == 0, "no memory");
        step_later(x);
        return n;
}

void sim_live_changed(struct exec *exec) {
        step_later(live_of(exec));
}

void sim_live_kill(struct exec *exec) {
        live_of(exec)->killed = true;
        step_later(live_of(exec));
}

void sim_live_cancel(struct exec *exec) {
        live_free(live_of(exec));
}
