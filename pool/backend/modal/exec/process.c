/* SPDX-License-Identifier: MIT */

/*
 * One process in a sandbox, by the router's exec calls.
 *
 *   starting   TaskExecStart; the exec id is ours, so that asking twice starts once. One that an earlier run
 *              started is only followed: from where that run was, its input from where the router is
 *   running    TaskExecStdioRead for each stream and TaskExecWait, at once; TaskExecStdinWrite
 *   ended      streams and wait have ended
 *
 * Nothing is asked of a process before its start is answered: what a router says of one that it does not know yet is
 * written nowhere.
 *
 * Streams are read by offset: whatever breaks, the next try goes on where the
 * last byte was. When the process has ended and a stream is silent, that is
 * because something else holds the pipe open, or because the stream got lost.
 * So it is asked for again a few times, and each time another call shows that
 * the connection works; then what there was is all.
 *
 * Output is held back by ending the reads; later they go on at their offsets. A transfer is never paused inside libcurl.
 *
 * A process that nobody listens to any more is kept until its start is answered: before that it may
 * still be started, and the clean-up of its sandbox has to wait.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/exec/input.h"
#include "pool/backend/modal/exec/process.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/net/retry.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"
#include "pool/util/uuid.h"

enum { N_STREAMS = 2 };

struct output {
        struct modal_process *process;
        struct modal_call *call;
        bool over;               /* it ended, or is not kept */
        uint64_t offset;         /* bytes given so far */
        unsigned silences;       /* rounds in a row that brought nothing over a working connection */
};

struct modal_process {
        struct modal_processes *table;
        const struct modal_process_events *events; /* NULL: over */
        void *owner;
        struct list link; /* in the table's listened, or in its unanswered */
        char exec_id[UUID_SIZE];
        struct buf request; /* TaskExecStart, until it is answered */
        bool only_start;
        struct modal_call *start, *wait, *poll;
        bool running; /* its start was answered */
        struct output outputs[N_STREAMS];
        bool known; /* the exit code */
        int code;
        bool unknown; /* the router does not know it */
        uv_timer_t timer; /* of silence after the end, or before asking again for the end */
        struct modal_call *proof; /* that a connection works */
        long proven;              /* that which does, in this round; -1: none */

        struct modal_input input;
        bool resumed;
        bool held;       /* output is held back */
        uv_timer_t soon; /* for what a call from above asked for */
        unsigned n_handles;
};

static void on_closed(uv_handle_t *handle) {
        struct modal_process *p = handle->data;

        if (--p->n_handles == 0)
                free(p);
}

static void cancel_call(struct modal_call **c) {
        if (*c)
                modal_call_cancel(TAKE_PTR(*c));
}

/* The memory goes with the next turn of the loop, so that callers up the stack may still look at it. */
static void forget(struct modal_process *p) {
        list_remove(&p->link);
        cancel_call(&p->start);
        buf_deinit(&p->request);
        uv_close((uv_handle_t *)&p->timer, on_closed);
        uv_close((uv_handle_t *)&p->soon, on_closed);
}

/* Nobody listens to it any more. */
static void release(struct modal_process *p) {
        p->events = NULL;
        list_remove(&p->link);
        cancel_call(&p->wait);
        cancel_call(&p->poll);
        cancel_call(&p->proof);
        for (int i = 0; i < N_STREAMS; i++)
                cancel_call(&p->outputs[i].call);
        modal_input_deinit(&p->input);
        uv_timer_stop(&p->timer);
        uv_timer_stop(&p->soon);
        if (p->start)
                list_add_tail(&p->table->unanswered, &p->link);
        else
                forget(p);
}

void modal_process_cancel(struct modal_process *p) {
        if (p->events)
                release(p);
}

void modal_processes_init(struct modal_processes *t, const struct modal_processes_events *events,
                          struct modal_endpoint *router, const struct modal_identity *identity) {
        *t = (struct modal_processes){ .events = events, .router = router, .identity = identity };
        list_init(&t->listened);
        list_init(&t->unanswered);
}

void modal_processes_cancel(struct modal_processes *t) {
        struct modal_process *p;

        while ((p = list_first(&t->listened, struct modal_process, link)))
                release(p);
}

void modal_processes_forget(struct modal_processes *t) {
        struct modal_process *p;

        modal_processes_cancel(t);
        while ((p = list_first(&t->unanswered, struct modal_process, link)))
                forget(p);
}

static void finish(struct modal_process *p, const struct result *r, int code) {
        const struct modal_process_events *events = p->events;
        void *owner = p->owner;

        release(p);
        events->ended(owner, r, code);
}

/* A call that is needed failed for good. */
static void fail(struct modal_process *p, const struct grpc_status *status, const char *what) {
        struct modal_processes *t = p->table;
        struct result r;

        if (t->lost)
                return; /* its end comes with the sandbox's */
        if (status->code == GRPC_NOT_FOUND) {
                p->unknown = true;
                t->events->unknown(t);
                return;
        }
        modal_client_explain(t->router->client, &r, status, "environment %s: %s", t->identity->id, what);
        finish(p, &r, 0);
}

void modal_processes_lost(struct modal_processes *t) {
        t->lost = true;
}

void modal_processes_unknown(struct modal_processes *t) {
        struct modal_process *p, *tmp;
        struct result r;

        result_set(&r, RESULT_FAILED, "environment %s does not know the command any more; how it ended cannot be known",
                   t->identity->id);
        list_for_each_safe (p, tmp, &t->listened, link)
                if (p->unknown) {
                        finish(p, &r, 0);
                        /* Who heard of it may have changed the list: begin anew. */
                        tmp = container_of(t->listened.next, struct modal_process, link);
                }
}

/* A call to the router about this process; the router may hold its answer back. */
static int ask(struct modal_process *p, const char *method, int (*pack)(void *owner, struct buf *out),
               void (*done)(void *owner, const struct grpc_status *, const void *, size_t), struct modal_call **out) {
        return modal_call_start(p->table->router,
                                &(struct modal_call_spec){
                                        .method = method,
                                        .group = HTTP_STREAMS,
                                        .attempt_us = POLL_TIMEOUT_US,
                                        .retry_for_us = RUN_RETRY_US,
                                        .poll = true,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack,
                                        .done = done,
                                },
                                p, out);
}

static int pack_exec(void *owner, struct buf *out) {
        struct modal_process *p = owner;

        return modal_pack_exec(out, p->table->identity->task_id, p->exec_id);
}

/* the end */

static void check_end(struct modal_process *p);
static int read_output(struct modal_process *p, int stream);

static bool is_read(const struct modal_process *p) {
        return p->outputs[STREAM_STDOUT].over && p->outputs[STREAM_STDERR].over;
}

static int on_proof(void *owner, const void *data, size_t len) {
        struct modal_process *p = owner;

        p->proven = modal_call_connection(p->proof);
        return 0;
}

static void on_proof_done(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_process *p = owner;

        p->proof = NULL;
}

/* A second of silence. Without its memory or its proof it does not count. */
static void on_silence(uv_timer_t *timer) {
        struct modal_process *p = timer->data;

        for (int i = 0; i < N_STREAMS; i++) {
                struct output *o = &p->outputs[i];

                if (!o->call || p->proof || p->proven < 0)
                        continue;
                if (p->proven == modal_call_connection(o->call) && ++o->silences == SILENCES_MAX) {
                        cancel_call(&o->call);
                        o->over = true;
                }
        }
        if (is_read(p)) {
                check_end(p);
                return;
        }
        uv_timer_start(&p->timer, on_silence, SILENCE_MS, 0);
        if (p->proof)
                return; /* it ends by its deadline, and the connection with it */
        for (int i = 0; i < N_STREAMS; i++)
                if (p->outputs[i].call) {
                        struct modal_call *old = p->outputs[i].call;

                        if (read_output(p, i) == 0)
                                modal_call_cancel(old);
                }
        p->proven = -1;
        (void)modal_call_start(p->table->router,
                               &(struct modal_call_spec){
                                       .method = "TaskExecPoll",
                                       .group = HTTP_STREAMS,
                                       .attempt_us = PROOF_TIMEOUT_US,
                                       .tries = 1,
                                       .message_max = MODAL_MESSAGE_MAX,
                                       .pack = pack_exec,
                                       .message = on_proof,
                                       .done = on_proof_done,
                               },
                               p, &p->proof);
}

static void check_end(struct modal_process *p) {
        struct result ok = {};

        if (!p->known || p->held)
                return;
        if (!is_read(p)) {
                p->proven = -1;
                if (!uv_is_active((uv_handle_t *)&p->timer))
                        uv_timer_start(&p->timer, on_silence, SILENCE_MS, 0);
                return;
        }
        finish(p, &ok, p->code);
}

static int wait_for_end(struct modal_process *p);

static void on_ask_again(uv_timer_t *timer) {
        struct modal_process *p = timer->data;

        if (wait_for_end(p) < 0)
                fail(p, &modal_no_memory, "waiting for the command's end");
}

static void on_wait(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_process *p = owner;
        bool ended = false;

        p->wait = NULL;
        if (status->code == GRPC_OK && modal_read_exec_wait(reply, len, &ended, &p->code) < 0)
                status = MODAL_UNREADABLE("TaskExecWait");
        if (ended) {
                p->known = true;
                check_end(p);
        } else if (status->code == GRPC_OK) {
                uv_timer_start(&p->timer, on_ask_again, ASK_AGAIN_MS, 0);
        } else {
                fail(p, status, "waiting for the command's end");
        }
}

static int wait_for_end(struct modal_process *p) {
        return ask(p, "TaskExecWait", pack_exec, on_wait, &p->wait);
}

/* The end may have come long ago, while the call that waits for it was broken. */
static void on_poll(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_process *p = owner;
        bool ended = false;

        p->poll = NULL;
        if (status->code == GRPC_OK && modal_read_exec_wait(reply, len, &ended, &p->code) < 0)
                status = MODAL_UNREADABLE("TaskExecPoll");
        if (status->code != GRPC_OK) {
                fail(p, status, "asking whether the command still runs");
                return;
        }
        if (ended && !p->known) {
                p->known = true;
                cancel_call(&p->wait);
                uv_timer_stop(&p->timer); /* that would ask again for the end */
                check_end(p);
        }
        if (p->events)
                p->events->polled(p->owner, !p->known);
}

int modal_process_poll(struct modal_process *p) {
        cancel_call(&p->poll);
        return modal_call_start(p->table->router,
                                &(struct modal_call_spec){
                                        .method = "TaskExecPoll",
                                        .group = HTTP_CALLS,
                                        .attempt_us = CALL_TIMEOUT_US,
                                        .retry_for_us = RUN_RETRY_US,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack_exec,
                                        .done = on_poll,
                                },
                                p, &p->poll);
}

/* output */

static int pack_read(void *owner, struct buf *out) {
        struct output *o = owner;
        struct modal_process *p = o->process;

        return modal_pack_exec_read(out, p->table->identity->task_id, p->exec_id, o->offset, o - p->outputs);
}

static void take_output(void *owner, const void *data, size_t len) {
        struct output *o = owner;
        struct modal_process *p = o->process;

        o->offset += len;
        o->silences = 0;
        if (p->known)
                uv_timer_start(&p->timer, on_silence, SILENCE_MS, 0);
        p->events->output(p->owner, o - p->outputs, data, len);
}

static int on_read(void *owner, const void *data, size_t len) {
        return modal_read_exec_read(data, len, take_output, owner);
}

static void on_read_done(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct output *o = owner;
        struct modal_process *p = o->process;

        o->call = NULL;
        if (status->code == GRPC_OK) {
                o->over = true;
                check_end(p);
        } else {
                fail(p, status, "reading the command's output");
        }
}

static int read_output(struct modal_process *p, int stream) {
        struct output *o = &p->outputs[stream];

        return modal_call_start(p->table->router,
                                &(struct modal_call_spec){
                                        .method = "TaskExecStdioRead",
                                        .group = HTTP_STREAMS,
                                        .attempt_us = STREAM_RENEW_US,
                                        .poll = true,
                                        .retry_for_us = RUN_RETRY_US,
                                        .message_max = MODAL_OUTPUT_MAX,
                                        .pack = pack_read,
                                        .message = on_read,
                                        .done = on_read_done,
                                },
                                o, &o->call);
}

/* Of those that are not over, unless output is held back. */
static int read_outputs(struct modal_process *p) {
        int r = 0;

        for (int i = 0; i < N_STREAMS && r == 0 && !p->held; i++)
                if (!p->outputs[i].over && !p->outputs[i].call)
                        r = read_output(p, i);
        return r;
}

/* input */

static struct modal_process *of_input(struct modal_input *in) {
        return container_of(in, struct modal_process, input);
}

static void on_room(struct modal_input *in) {
        struct modal_process *p = of_input(in);

        p->events->room(p->owner);
}

static void on_input_failed(struct modal_input *in, const struct grpc_status *status) {
        fail(of_input(in), status, "writing the command's input");
}

static void on_input_unreadable(struct modal_input *in, int n) {
        struct modal_process *p = of_input(in);
        struct result r;

        result_set(&r, RESULT_FAILED, "environment %s: reading the command's input: %s", p->table->identity->id,
                   strerror(-n));
        finish(p, &r, 0);
}

static const struct modal_input_events input_events = {
        .room = on_room,
        .failed = on_input_failed,
        .unreadable = on_input_unreadable,
};

/* what calls from above ask for, in the next turn of the loop: so they cannot fail */

static void on_soon(uv_timer_t *timer) {
        struct modal_process *p = timer->data;
        int r = modal_input_go_on(&p->input);

        if (r < 0) {
                on_input_unreadable(&p->input, r);
                return;
        }
        if (modal_input_has_room(&p->input))
                p->events->room(p->owner);
        if (!p->events)
                return;
        if (read_outputs(p) < 0)
                fail(p, &modal_no_memory, "reading the command's output");
        else
                check_end(p);
}

/* Before it runs there is time: follow() looks at all of it. */
static void do_soon(struct modal_process *p) {
        if (p->running)
                uv_timer_start(&p->soon, on_soon, 0, 0);
}

ssize_t modal_process_write(struct modal_process *p, const void *data, size_t len) {
        ssize_t n = modal_input_write(&p->input, data, len);

        if (n >= 0)
                do_soon(p);
        return n;
}

void modal_process_end_input(struct modal_process *p) {
        modal_input_end(&p->input);
        if (p->input.open)
                do_soon(p);
}

void modal_process_hold_output(struct modal_process *p, bool hold) {
        p->held = hold;
        if (!hold) {
                do_soon(p);
                return;
        }
        for (int i = 0; i < N_STREAMS; i++)
                cancel_call(&p->outputs[i].call);
        if (p->known)
                uv_timer_stop(&p->timer); /* of silence */
}

/* the start */

static int pack_start(void *owner, struct buf *out) {
        struct modal_process *p = owner;

        return buf_append(out, p->request.data, p->request.len);
}

/* It runs. */
static void follow(struct modal_process *p) {
        struct result why;
        int r;

        p->running = true;
        r = read_outputs(p);
        if (r == 0)
                r = wait_for_end(p);
        if (r == 0)
                r = modal_input_start(&p->input, p->resumed);
        if (r < 0) {
                result_set(&why, RESULT_FAILED, "environment %s: following the command: %s", p->table->identity->id,
                           strerror(-r));
                finish(p, &why, 0);
                return;
        }
        if (p->events->started)
                p->events->started(p->owner);
}

static void on_resumed(uv_timer_t *timer) {
        follow(timer->data);
}

static void on_started(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_process *p = owner;
        struct result ok = {};

        p->start = NULL;
        if (!p->events) {
                struct modal_processes *t = p->table;

                forget(p);
                t->events->start_known(t, !retry_may_pass(status));
                return;
        }
        if (status->code == GRPC_NOT_FOUND) {
                p->table->events->lost(p->table, status->message);
                return;
        }
        if (status->code != GRPC_OK) {
                fail(p, status, retry_may_pass(status) ? "starting the command (it may or may not have run)"
                                                       : "starting the command");
                return;
        }
        buf_deinit(&p->request);
        if (p->only_start) {
                finish(p, &ok, 0);
                return;
        }
        follow(p);
}

static int start(struct modal_process *p, const struct modal_process_spec *spec) {
        static const char *const nothing[] = { NULL };
        int r = modal_pack_exec_start(&p->request, p->table->identity->task_id, p->exec_id, spec->args, spec->n_args,
                                      spec->env ? spec->env : nothing, MODAL_PIPE,
                                      spec->keep_stderr ? MODAL_PIPE : MODAL_DEVNULL);

        if (r == 0)
                r = modal_call_start(p->table->router,
                                     &(struct modal_call_spec){
                                             .method = "TaskExecStart",
                                             .group = HTTP_CALLS,
                                             .attempt_us = CALL_TIMEOUT_US,
                                             .retry_for_us = spec->retry_for_us ? spec->retry_for_us : START_RETRY_US,
                                             .message_max = MODAL_MESSAGE_MAX,
                                             .pack = pack_start,
                                             .done = on_started,
                                     },
                                     p, &p->start);
        return r;
}

static struct modal_process *process_new(struct modal_processes *t, const struct modal_process_spec *spec) {
        struct modal_process *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->table = t;
        p->only_start = spec->only_start;
        p->resumed = spec->resume;
        p->request = (struct buf)BUF_INIT(MODAL_REQUEST_MAX);
        modal_input_init(&p->input, &input_events, t->router, t->identity, p->exec_id, spec->input, spec->live_input);
        for (int i = 0; i < N_STREAMS; i++) {
                p->outputs[i].process = p;
                p->outputs[i].offset = spec->offsets[i];
        }
        p->outputs[STREAM_STDERR].over = !spec->keep_stderr;
        uv_timer_init(t->router->client->loop, &p->timer);
        uv_unref((uv_handle_t *)&p->timer);
        uv_timer_init(t->router->client->loop, &p->soon);
        p->timer.data = p->soon.data = p;
        p->n_handles = 2;
        list_init(&p->link);
        list_add_tail(&t->listened, &p->link);
        return p;
}

int modal_process_start(struct modal_processes *t, const struct modal_process_spec *spec,
                        const struct modal_process_events *events, void *owner, struct modal_process **out) {
        struct modal_process *p = process_new(t, spec);
        int r = 0;

        if (!p) {
                if (spec->input)
                        modal_stdin_deinit(spec->input);
                return -ENOMEM;
        }
        p->events = events;
        p->owner = owner;
        if (spec->exec_id)
                snprintf(p->exec_id, sizeof(p->exec_id), "%s", spec->exec_id);
        else
                r = uuid_make(p->exec_id);
        if (r == 0 && spec->resume)
                uv_timer_start(&p->timer, on_resumed, 0, 0);
        else if (r == 0)
                r = start(p, spec);
        if (r < 0) {
                release(p);
                return r;
        }
        *out = p;
        return 0;
}
