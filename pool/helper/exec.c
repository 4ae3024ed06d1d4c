/* SPDX-License-Identifier: MIT */
#include "pool/helper/exec.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/helper/source.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/uuid.h"

#define RECORD_HEAD 3                           /* bytes before a piece of output that is kept: stream, length */
#define KEPT_MAX ((1 + RECORD_HEAD) * HELPER_WINDOW_MAX) /* if each piece has one byte */

/*
 * One that is cancelled before its job has ended is orphaned: its owner hears no more of it, but the job goes on. It
 * stays until the job ends, or the sandbox does.
 */
struct helper_exec {
        struct exec exec;
        struct exec *inner; /* by which it is run, where that is not the helper */
        struct list link;   /* in the sandbox's execs, unless it has an inner one */
        struct client_job *job;
        bool resume, brief, orphan, output_refused;
        struct source command, input;
        uint64_t given[2];         /* bytes of output */
        struct buf kept;           /* pieces of output that came while it was held back */
        char *cwd;                 /* for the text where it is not there */
        int64_t grace_us;          /* of the shortest kill that was asked for; or never */
        bool kill_due;             /* it could not be ordered yet */
        bool resize_due;           /* likewise, to this size: */
        uint16_t rows, columns;
        bool polling;
        uint64_t poll_request;
        bool over; /* it has ended, with this: */
        struct result result;
        int code;
};

static uint64_t last_request;

static struct helper_exec *helper_exec_of(struct exec *e) {
        return container_of(e, struct helper_exec, exec);
}

static struct helper_sandbox *sandbox_of(const struct helper_exec *e) {
        return helper_sandbox_of(e->exec.sandbox);
}

static void wake(const struct helper_exec *e) {
        carrier_wake(&sandbox_of(e)->carrier);
}

static void deinit(struct helper_exec *e) {
        source_deinit(&e->command);
        source_deinit(&e->input);
        free(TAKE_PTR(e->cwd));
}

/* Its job, and all that it keeps. */
static void release(struct helper_exec *e) {
        list_remove(&e->link);
        client_job_free(TAKE_PTR(e->job));
        deinit(e);
        buf_deinit(&e->kept);
        if (!e->orphan)
                carrier_release(&sandbox_of(e)->carrier, e->brief);
}

/* It is given up: its job is killed when that is released. */
static void fail(struct helper_exec *e, const char *what) {
        if (e->over)
                return;
        e->over = true;
        result_set(&e->result, RESULT_FAILED, "environment %s: %s", e->exec.sandbox->id, what);
        wake(e);
}

/* events of the job */

static void on_started(void *owner) {
        struct helper_exec *e = owner;

        if (!e->orphan && !e->exec.started)
                exec_started(&e->exec);
}

static void give(struct helper_exec *e, unsigned stream, const void *data, size_t len) {
        e->given[stream] += len;
        client_job_acknowledge(e->job, e->given); /* which is sent later: then its owner has them */
        if (!e->orphan)
                exec_output(&e->exec, stream, data, len);
}

/* In records of at most HELPER_DATA_MAX bytes. */
static void keep(struct helper_exec *e, unsigned stream, const void *data, size_t len) {
        const char *from = data, *end = from + len;

        for (size_t n; from < end && !e->over; from += n) {
                n = (size_t)(end - from) < HELPER_DATA_MAX ? (size_t)(end - from) : HELPER_DATA_MAX;
                if (buf_append(&e->kept, (uint8_t[RECORD_HEAD]){ (uint8_t)stream, (uint8_t)n, (uint8_t)(n >> 8) },
                               RECORD_HEAD) < 0 ||
                    buf_append(&e->kept, from, n) < 0)
                        fail(e, "more output came than was asked for, or there is no memory for it");
        }
}

static void on_output(void *owner, unsigned stream, const void *data, size_t len) {
        struct helper_exec *e = owner;

        if (e->over)
                return;
        if ((e->exec.held && !e->orphan) || e->kept.len > 0)
                keep(e, stream, data, len);
        else
                give(e, stream, data, len);
}

static void on_missed(void *owner, unsigned stream, uint64_t offset) {
        struct helper_exec *e = owner;

        e->given[stream] = offset;
        if (!e->output_refused && !e->orphan)
                fail(e, "some of its output is lost: an earlier run of the daemon could not keep it");
}

static bool on_command(void *owner, uint64_t offset, void *data, size_t len) {
        struct helper_exec *e = owner;
        bool done = source_read(&e->command, offset, data, len);

        if (!done)
                fail(e, "the command cannot be read");
        return done;
}

static bool on_input(void *owner, uint64_t offset, void *data, size_t len) {
        struct helper_exec *e = owner;

        if (e->exec.kept_input ? !e->orphan && e->exec.events->read_input(e->exec.owner, offset, data, len)
                               : source_read(&e->input, offset, data, len))
                return true;
        fail(e, "the command's input cannot be read");
        return false;
}

static void on_taken(void *owner, uint64_t offset) {
        struct helper_exec *e = owner;

        if (e->exec.kept_input && !e->orphan)
                exec_input_taken(&e->exec, offset, !client_job_reads_input(e->job));
}

static void set_end(struct helper_exec *e, const struct client_end *end) {
        const char *id = e->exec.sandbox->id;
        int len = (int)end->text_len;

        switch (end->how) {
        case HELPER_END_EXIT:
                e->code = end->value & 0xff;
                result_set(&e->result, RESULT_OK, "%.*s", len, end->text);
                break;
        case HELPER_END_SIGNAL:
        case HELPER_END_TIMEOUT:
                e->code = 128 + (end->value & 0x7f);
                result_set(&e->result, RESULT_OK, "%.*s", len, end->text);
                break;
        case HELPER_END_CWD:
                e->code = EXEC_NO_CWD;
                exec_no_cwd(&e->result, e->cwd);
                break;
        case HELPER_END_USER:
                e->code = EXEC_NO_USER;
                result_set(&e->result, RESULT_OK, "%.*s", len, end->text);
                break;
        case HELPER_END_FAILED:
                result_set(&e->result, RESULT_FAILED, "environment %s: %.*s", id, len, end->text);
                break;
        case HELPER_END_UNKNOWN:
                result_set(&e->result, RESULT_FAILED, "environment %s: how the command ended cannot be known: %.*s", id,
                           len, end->text);
                break;
        }
}

static void on_ended(void *owner, const struct client_end *end) {
        struct helper_exec *e = owner;

        if (!e->over)
                set_end(e, end);
        e->over = true;
        wake(e);
}

static const struct client_job_events job_events = {
        .started = on_started,
        .output = on_output,
        .missed = on_missed,
        .command = on_command,
        .input = on_input,
        .taken = on_taken,
        .ended = on_ended,
};

/* what a turn of the carrier does for one */

static void give_kept(struct helper_exec *e) {
        static uint8_t piece[HELPER_DATA_MAX];
        const uint8_t *record = (const uint8_t *)e->kept.data;
        unsigned stream = record[0];
        size_t len = record[1] | (size_t)record[2] << 8;

        memcpy(piece, record + RECORD_HEAD, len);
        buf_drop(&e->kept, RECORD_HEAD + len);
        give(e, stream, piece, len);
}

static void finish(struct helper_exec *e) {
        release(e);
        exec_ended(&e->exec, &e->result, e->code);
        free(e);
}

static void order_kill(struct helper_exec *e) {
        e->kill_due = client_job_kill(e->job, e->grace_us) < 0;
}

static void order_resize(struct helper_exec *e) {
        e->resize_due = client_job_resize(e->job, e->rows, e->columns) < 0;
}

/* True: an event was given, and anything may have changed. */
static bool act(struct helper_exec *e) {
        if (e->kill_due && !e->over)
                order_kill(e);
        if (e->resize_due && !e->over)
                order_resize(e);
        if (e->kept.len > 0 && (e->orphan || !e->exec.held)) {
                give_kept(e);
        } else if (e->orphan) {
                if (!e->over)
                        return false;
                release(e);
                free(e);
        } else if (e->over && !e->exec.held && result_ok(&e->result) && !e->exec.started) {
                exec_started(&e->exec); /* it was killed before, or never ran: that is known by its end alone */
        } else if (e->over && !e->exec.held) {
                finish(e);
        } else if (e->over && e->polling) {
                e->polling = false;
                exec_polled(&e->exec, false);
        } else {
                return false;
        }
        return true;
}

static bool act_for_one(struct helper_sandbox *s) {
        struct helper_exec *e;

        list_for_each (e, &s->execs, link)
                if (act(e))
                        return true;
        return false;
}

void helper_execs_turn(struct helper_sandbox *s) {
        while (act_for_one(s))
                ;
}

static void ask(struct helper_exec *e) {
        e->poll_request = ++last_request;
        (void)client_ping(sandbox_of(e)->carrier.client, e->poll_request); /* else when the carrier is open */
}

static struct helper_exec *first_followed(struct helper_sandbox *s) {
        struct helper_exec *e;

        list_for_each (e, &s->execs, link)
                if (e->resume && !e->exec.started && !e->over && !e->orphan)
                        return e;
        return NULL;
}

/* Those of an earlier run that the helper knows run, or have ended; those that it does not have ended just before. */
void helper_execs_opened(struct helper_sandbox *s) {
        struct helper_exec *e;

        while ((e = first_followed(s)))
                exec_started(&e->exec);
        list_for_each (e, &s->execs, link)
                if (e->polling)
                        ask(e);
}

void helper_execs_replied(struct helper_sandbox *s, uint64_t request) {
        struct helper_exec *e;

        list_for_each (e, &s->execs, link) {
                if (!e->polling || e->poll_request != request || e->over)
                        continue;
                e->polling = false;
                exec_polled(&e->exec, client_job_runs(e->job));
                return;
        }
}

void helper_execs_drop(struct helper_sandbox *s) {
        struct helper_exec *e;

        while ((e = list_first(&s->execs, struct helper_exec, link))) {
                assert(e->orphan);
                release(e);
                free(e);
        }
}

/* an exec of the backend below */

static void on_inner_started(void *owner) {
        struct helper_exec *e = owner;

        exec_started(&e->exec);
}

static void on_inner_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct helper_exec *e = owner;

        exec_output(&e->exec, stream, data, len);
}

static void on_inner_ended(void *owner, const struct result *r, int code) {
        struct helper_exec *e = owner;

        exec_ended(&e->exec, r, code);
        free(e);
}

static void on_inner_polled(void *owner, bool running) {
        struct helper_exec *e = owner;

        exec_polled(&e->exec, running);
}

static void on_inner_room(void *owner) {
        struct helper_exec *e = owner;

        exec_room(&e->exec);
}

static const struct exec_events inner_events = {
        .started = on_inner_started,
        .output = on_inner_output,
        .ended = on_inner_ended,
        .polled = on_inner_polled,
        .room = on_inner_room,
};

/* calls */

static int start_job(struct helper_exec *e, const struct exec_spec *spec) {
        struct helper_sandbox *s = sandbox_of(e);
        /* One that has given output has run, whether or not that could be written down. */
        bool resume = spec->resume || spec->offsets[0] > 0 || spec->offsets[1] > 0;
        struct client_job_spec job = {
                .flags = (spec->fresh ? START_FRESH : 0) | (e->input.size > 0 || spec->kept_input ? START_INPUT : 0) |
                         (spec->rows ? START_TERMINAL : 0),
                .rows = spec->rows,
                .columns = spec->columns,
                .shell = spec->shell,
                .workdir = spec->workdir,
                .cwd = spec->cwd,
                .user = spec->user ?: "",
                .env = spec->env,
                .command_len = e->command.size,
                .resume = resume,
                .streams = { spec->offsets[0], spec->offsets[1] },
        };
        int r;

        if (!spec->brief)
                helper_note_spoil(s);
        uuid_bytes(spec->id, job.id);
        if (resume) /* the next one tells of the job */
                carrier_renew(&s->carrier);
        r = carrier_open(&s->carrier);
        if (r == 0)
                r = client_job_start(s->carrier.client, &job, &job_events, e, &e->job);
        if (r < 0)
                return r;
        if (e->input.size > 0)
                client_job_input(e->job, e->input.size, true);
        e->resume = resume;
        list_add_tail(&s->execs, &e->link);
        carrier_use(&s->carrier);
        return 0;
}

static int start(struct helper_exec *e, const struct exec_spec *spec) {
        struct helper_sandbox *s = sandbox_of(e);
        int r;

        if (s->mode == HELPER_PLAIN)
                return sandbox_exec(s->inner, spec, &inner_events, e, &e->inner);
        e->cwd = strdup(spec->cwd);
        r = e->cwd ? source_init(&e->command, spec->command) : -ENOMEM;
        if (r == 0)
                r = source_init(&e->input, spec->input);
        return r < 0 ? r : start_job(e, spec);
}

int helper_exec(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out) {
        struct helper_exec *e = calloc(1, sizeof(*e));
        int r;

        if (!e)
                return -ENOMEM;
        *e = (struct helper_exec){
                .exec.sandbox = sandbox,
                .brief = spec->brief,
                .output_refused = spec->output_refused,
                .grace_us = USEC_NEVER,
                .given = { spec->offsets[0], spec->offsets[1] },
                .kept = BUF_INIT(KEPT_MAX),
        };
        list_init(&e->link);
        r = start(e, spec);
        if (r < 0) {
                deinit(e);
                free(e);
                return r;
        }
        *out = &e->exec;
        return 0;
}

void helper_exec_signal(struct exec *exec, int signo) {
        struct helper_exec *e = helper_exec_of(exec);
        int r;

        if (e->inner) {
                exec_signal(e->inner, signo);
                return;
        }
        r = e->over ? 0 : client_job_signal(e->job, signo);
        if (r < 0)
                log_warning("environment=%s: signal %d not sent: %s", exec->sandbox->id, signo, strerror(-r));
        wake(e);
}

int helper_exec_poll(struct exec *exec) {
        struct helper_exec *e = helper_exec_of(exec);

        if (e->inner)
                return exec_poll(e->inner);
        e->polling = true;
        if (!e->over)
                ask(e);
        wake(e);
        return 0;
}

/* Only what a plain sandbox runs has live input, and only what the helper runs has kept input. */
ssize_t helper_exec_write(struct exec *exec, const void *data, size_t len) {
        return exec_write(helper_exec_of(exec)->inner, data, len);
}

void helper_exec_end_input(struct exec *exec) {
        exec_end_input(helper_exec_of(exec)->inner);
}

void helper_exec_offer_input(struct exec *exec, uint64_t size, bool end) {
        struct helper_exec *e = helper_exec_of(exec);

        if (e->over)
                return;
        client_job_input(e->job, size, end);
        wake(e);
}

void helper_exec_resize(struct exec *exec, uint16_t rows, uint16_t columns) {
        struct helper_exec *e = helper_exec_of(exec);

        e->rows = rows;
        e->columns = columns;
        if (e->over)
                return;
        order_resize(e);
        wake(e);
}

void helper_exec_hold_output(struct exec *exec) {
        struct helper_exec *e = helper_exec_of(exec);

        if (e->inner)
                exec_hold_output(e->inner, exec->held);
        else if (!exec->held)
                wake(e);
}

void helper_exec_kill(struct exec *exec, int64_t grace_us) {
        struct helper_exec *e = helper_exec_of(exec);

        if (e->inner) {
                exec_kill(e->inner, grace_us);
        } else if (!e->over && grace_us < e->grace_us) {
                e->grace_us = grace_us;
                order_kill(e);
                wake(e);
        }
}

void helper_exec_cancel(struct exec *exec) {
        struct helper_exec *e = helper_exec_of(exec);

        if (e->inner) {
                exec_cancel(e->inner);
                free(e);
                return;
        }
        carrier_release(&sandbox_of(e)->carrier, e->brief);
        e->orphan = true;
        e->polling = false;
        wake(e);
}
