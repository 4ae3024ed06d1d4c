/* SPDX-License-Identifier: MIT */

/*
 * A job: a process behind the wrapper of exec/script.c.
 *
 * The wrapper says by one line of stderr, which begins with the exec's id, that
 * it could not run the command. So the first bytes of stderr are held back as
 * long as they may be the beginning of that line.
 */

#include "pool/backend/modal/exec/exec.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/exec/run-script.h"
#include "pool/backend/modal/sandbox/sandbox.h"
#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/io.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

#define NOT_RUN 126 /* the wrapper's exit code when it could not run the command */
#define ESCAPE_WAIT_MS 5000 /* for a job's end, when its killer could not end all of it */

struct modal_exec {
        struct exec exec;
        struct modal_process *process;
        char exec_id[UUID_SIZE];
        int pending_signal;
        bool pending_kill;
        int64_t grace_us;             /* of the kill that is wanted, or under way */
        struct modal_process *killer; /* the job has ended when that is done too */
        struct buf left;              /* what that says of processes that are left … */
        bool none_found;              /* … or that it found none, which only matters where there is one */
        uv_timer_t timer;             /* then the job's end is not waited for any more */
        bool ended;                   /* it has, with this, while the killer goes on */
        struct result result;
        int code;
        bool over_head; /* stderr is passed on as it comes */
        char head[COMPLAINT_MAX]; /* stderr held back */
        size_t head_len;
};

static struct modal_exec *modal_exec_of(struct exec *e) {
        return container_of(e, struct modal_exec, exec);
}

static void on_timer_closed(uv_handle_t *handle) {
        struct modal_exec *e = handle->data;

        buf_deinit(&e->left);
        free(e);
}

static void exec_free(struct modal_exec *e) {
        uv_close((uv_handle_t *)&e->timer, on_timer_closed);
}

/* signals, and kills */

#define MARK_SIZE (sizeof(EXEC_MARK "=") + UUID_SIZE)

static void make_mark(const struct modal_exec *e, char out[MARK_SIZE]) {
        snprintf(out, MARK_SIZE, "%s=%s", EXEC_MARK, e->exec_id);
}

static void on_signalled(void *owner, const struct result *r, int code) {
        if (!result_ok(r))
                log_warning("%s", r->text);
}

static const struct modal_process_events signal_events = {
        .output = modal_no_output,
        .ended = on_signalled,
};

/* Nobody waits for a signal: what it does shows in the job. */
static void send_signal(struct modal_exec *e, int signo) {
        struct modal_sandbox *s = modal_sandbox_of(e->exec.sandbox);
        struct modal_process *p = NULL;
        char mark[MARK_SIZE];
        struct script script;
        int r;

        make_mark(e, mark);
        script_init(&script);
        r = modal_run_script(&s->processes, &script, script_make_signal(&script, mark, buf_text(&s->identity.own), signo),
                             &(struct modal_process_spec){ .only_start = true }, &signal_events, NULL, &p);
        if (r < 0)
                log_warning("environment=%s: signal %d not sent: %s", s->sandbox.id, signo, strerror(-r));
}

void modal_exec_signal(struct exec *exec, int signo) {
        struct modal_exec *e = modal_exec_of(exec);

        /* Before the start is answered there may be nobody to signal yet. */
        if (exec->started)
                send_signal(e, signo);
        else
                e->pending_signal = signo;
}

int modal_exec_poll(struct exec *exec) {
        struct modal_exec *e = modal_exec_of(exec);

        return e->ended ? 0 : modal_process_poll(e->process);
}

static void deliver_end(struct modal_exec *e);

/* Every process that could be found was killed, and still Modal does not say that the job has ended. */
static void on_escaped(uv_timer_t *timer) {
        struct modal_exec *e = timer->data;

        modal_process_cancel(e->process);
        e->ended = true;
        e->none_found = false;
        e->result = (struct result){};
        e->code = 128 + SIGKILL;
        deliver_end(e);
}

static void on_killer_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct modal_exec *e = owner;
        size_t room = e->left.max - e->left.len;

        (void)buf_append(&e->left, data, len < room ? len : room);
}

static void on_killed(void *owner, const struct result *r, int code) {
        struct modal_exec *e = owner;

        e->killer = NULL;
        e->none_found = result_ok(r) && code == SCRIPT_NONE_FOUND;
        if (!result_ok(r))
                log_warning("%s", r->text);
        if (e->ended)
                deliver_end(e);
        else if (result_ok(r) && e->left.len > 0 && !e->exec.held)
                uv_timer_start(&e->timer, on_escaped, ESCAPE_WAIT_MS, 0);
}

static const struct modal_process_events killer_events = {
        .output = on_killer_output,
        .ended = on_killed,
};

static void start_killer(struct modal_exec *e) {
        struct modal_sandbox *s = modal_sandbox_of(e->exec.sandbox);
        char mark[MARK_SIZE];
        struct script script;
        int r;

        if (e->killer)
                modal_process_cancel(TAKE_PTR(e->killer)); /* one that waits for the grace to pass */
        buf_clear(&e->left);
        make_mark(e, mark);
        script_init(&script);
        r = modal_run_script(&s->processes, &script, script_make_kill(&script, mark, buf_text(&s->identity.own), e->grace_us),
                             &(struct modal_process_spec){}, &killer_events, e, &e->killer);
        if (r < 0)
                log_warning("environment=%s: kill not sent: %s", s->sandbox.id, strerror(-r));
}

void modal_exec_kill(struct exec *exec, int64_t grace_us) {
        struct modal_exec *e = modal_exec_of(exec);

        if ((e->killer || e->pending_kill) && grace_us >= e->grace_us)
                return;
        e->grace_us = grace_us;
        e->pending_kill = !exec->started;
        if (exec->started)
                start_killer(e);
}

void modal_exec_cancel(struct exec *exec) {
        struct modal_exec *e = modal_exec_of(exec);

        if (e->killer)
                modal_process_cancel(e->killer); /* we only stop listening to it */
        if (!e->ended)
                modal_process_cancel(e->process);
        exec_free(e);
}

/* events */

static void on_started(void *owner) {
        struct modal_exec *e = owner;

        if (e->pending_kill)
                start_killer(e);
        else if (e->pending_signal)
                send_signal(e, e->pending_signal);
        e->pending_kill = false;
        exec_started(&e->exec);
}

/* The wrapper's line could begin like this. */
static bool may_be_complaint(const struct modal_exec *e) {
        size_t id = strlen(e->exec_id), n = e->head_len < id ? e->head_len : id;

        return !memcmp(e->head, e->exec_id, n);
}

static void pass_head(struct modal_exec *e) {
        size_t len = e->head_len;

        e->over_head = true;
        e->head_len = 0;
        if (len > 0)
                exec_output(&e->exec, STREAM_STDERR, e->head, len);
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct modal_exec *e = owner;
        size_t n;

        if (stream == STREAM_STDOUT || e->over_head) {
                exec_output(&e->exec, stream, data, len);
                return;
        }
        n = len < sizeof(e->head) - e->head_len ? len : sizeof(e->head) - e->head_len;
        memcpy(e->head + e->head_len, data, n);
        e->head_len += n;
        if (may_be_complaint(e) && (n == len || e->head_len == sizeof(e->head)))
                return; /* a complaint may be cut, for what is behind it matters to nobody */
        pass_head(e);
        if (n < len)
                exec_output(&e->exec, stream, (const char *)data + n, len - n);
}

/* "ID cwd /where", "ID fail what" */
static void read_complaint(struct modal_exec *e, struct result *r) {
        const char *text = e->head + strlen(e->exec_id) + 1;
        const char *id = e->exec.sandbox->id;
        size_t len = e->head_len < sizeof(e->head) ? e->head_len : sizeof(e->head) - 1;

        while (e->head[len - 1] == '\n')
                len--;
        e->head[len] = '\0';
        if (!strncmp(text, "cwd ", 4))
                exec_no_cwd(r, text + 4);
        else
                result_set(r, RESULT_FAILED, "environment %s: %s", id, strncmp(text, "fail ", 5) ? text : text + 5);
}

/* The killer has to be done, and the output must not be held back; then somebody comes here again. */
static void deliver_end(struct modal_exec *e) {
        struct result complaint;

        if (!e->ended || e->killer || e->exec.held)
                return;
        if (result_ok(&e->result) && e->code == NOT_RUN && !e->over_head && e->head_len > strlen(e->exec_id) + 1 &&
            may_be_complaint(e)) {
                read_complaint(e, &complaint);
                exec_ended(&e->exec, &complaint, result_ok(&complaint) ? EXEC_NO_CWD : 0);
        } else {
                if (!e->over_head)
                        pass_head(e);
                if (e->exec.held)
                        return;
                if (result_ok(&e->result) && e->left.len > 0 && !e->none_found)
                        result_set(&e->result, RESULT_OK, "%s", buf_text(&e->left));
                exec_ended(&e->exec, &e->result, e->code);
        }
        exec_free(e);
}

static void on_ended(void *owner, const struct result *r, int code) {
        struct modal_exec *e = owner;

        e->ended = true;
        e->result = *r;
        e->code = code;
        uv_timer_stop(&e->timer);
        deliver_end(e);
}

static void on_room(void *owner) {
        struct modal_exec *e = owner;

        exec_room(&e->exec);
}

static void on_polled(void *owner, bool running) {
        struct modal_exec *e = owner;

        exec_polled(&e->exec, running);
}

static const struct modal_process_events process_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
        .polled = on_polled,
        .room = on_room,
};

/* input and output */

ssize_t modal_exec_write(struct exec *exec, const void *data, size_t len) {
        struct modal_exec *e = modal_exec_of(exec);

        return e->ended ? -EPIPE : modal_process_write(e->process, data, len);
}

void modal_exec_end_input(struct exec *exec) {
        struct modal_exec *e = modal_exec_of(exec);

        if (!e->ended)
                modal_process_end_input(e->process);
}

static void on_given(uv_timer_t *timer) {
        deliver_end(timer->data);
}

void modal_exec_hold_output(struct exec *exec) {
        struct modal_exec *e = modal_exec_of(exec);

        if (!e->ended)
                modal_process_hold_output(e->process, exec->held);
        if (exec->held)
                uv_timer_stop(&e->timer);
        else if (e->ended)
                uv_timer_start(&e->timer, on_given, 0, 0); /* not from inside the call */
        else if (!e->killer && e->left.len > 0)
                uv_timer_start(&e->timer, on_escaped, ESCAPE_WAIT_MS, 0);
}

/* what to run */

/* The strings that lie in @strings as an array, for the caller to free; NULL when out of memory. */
static const char **list_strings(const struct buf *strings) {
        const char **list, *end = buf_text(strings) + strings->len;
        size_t n = 0;

        for (const char *s = buf_text(strings); s < end; s += strlen(s) + 1)
                n++;
        list = calloc(n + 1, sizeof(*list));
        if (!list)
                return NULL;
        n = 0;
        for (const char *s = buf_text(strings); s < end; s += strlen(s) + 1)
                list[n++] = s;
        return list;
}

/* All of a blob that is small enough for an argument. */
static int read_command(const struct blob *b, struct buf *out) {
        char chunk[4096];
        ssize_t n = 0;
        int r = 0;

        for (uint64_t at = 0; r == 0 && (n = blob_read(b, at, chunk, sizeof(chunk))) > 0; at += n)
                r = buf_append(out, chunk, n);
        return n < 0 ? (int)n : r;
}

static int open_blob(const struct blob *b, struct modal_stdin *in, int i) {
        int fd = blob_open(b);

        if (fd < 0)
                return fd;
        in->fds[i] = fd;
        in->lens[i] = b->size;
        return 0;
}

/* The argument vector, and what has to go by standard input; *@reads_stdin tells whether that is anything. */
static int prepare(struct modal_exec *e, const struct exec_spec *spec, struct buf *prelude, struct script *script,
                   struct modal_stdin *in, bool *reads_stdin) {
        bool input = spec->input && spec->input->size > 0;
        struct buf command = BUF_INIT(ARGUMENTS_MAX);
        struct script_job job = {
                .exec_id = e->exec_id,
                .workdir = spec->workdir,
                .cwd = spec->cwd,
                .shell = spec->shell,
                .fresh = spec->fresh,
                .input = input || spec->live_input,
                .prelude = buf_text(prelude),
        };
        int r = 0;

        if (spec->command->size < ARGUMENTS_MAX) {
                r = read_command(spec->command, &command);
                job.command = buf_text(&command);
                job.command_len = command.len;
                if (r == 0)
                        r = script_make_job(script, &job);
        }
        buf_deinit(&command);
        if (r == 0 && (script->n == 0 || script->size > ARGUMENTS_MAX)) {
                script_deinit(script);
                job.on_stdin = spec->command->size;
                job.prelude_on_stdin = prelude->len;
                job.command = "";
                job.command_len = 0;
                r = script_make_job(script, &job);
                if (r == 0)
                        r = open_blob(spec->command, in, 0);
                in->head = *prelude;
                *prelude = (struct buf)BUF_INIT(SCRIPT_SIZE_MAX);
        }
        if (r == 0 && input)
                r = open_blob(spec->input, in, 1);
        in->eof = input;
        *reads_stdin = input || job.on_stdin > 0; /* besides live input */
        return r;
}

/* Start it, or go on with it: what it was started with tells what it has to read. */
static int begin(struct modal_exec *e, const struct exec_spec *spec) {
        struct modal_stdin in = MODAL_STDIN_INIT(SCRIPT_SIZE_MAX);
        struct buf prelude = BUF_INIT(SCRIPT_SIZE_MAX), carriers = BUF_INIT(SCRIPT_SIZE_MAX);
        const char *args[SCRIPT_ARGUMENTS_MAX];
        _cleanup_(cleanup_free) const char **env = NULL;
        struct script script;
        bool reads_stdin = false;
        int r;

        script_init(&script);
        r = script_make_env(spec->env, &carriers, &prelude);
        if (r == 0) {
                env = list_strings(&carriers);
                r = env ? 0 : -ENOMEM;
        }
        if (r == 0)
                r = prepare(e, spec, &prelude, &script, &in, &reads_stdin);
        for (size_t i = 0; i < script.n; i++)
                args[i] = script_argument(&script, i);
        if (r == 0)
                r = modal_process_start(&modal_sandbox_of(e->exec.sandbox)->processes,
                                        &(struct modal_process_spec){
                                                .args = args,
                                                .n_args = script.n,
                                                .env = env,
                                                .keep_stderr = true,
                                                .input = reads_stdin ? &in : NULL,
                                                .live_input = spec->live_input,
                                                .exec_id = e->exec_id,
                                                .resume = spec->resume,
                                                .offsets = { spec->offsets[0], spec->offsets[1] },
                                        },
                                        &process_events, e, &e->process);
        else
                modal_stdin_deinit(&in);
        script_deinit(&script);
        buf_deinit(&prelude);
        buf_deinit(&carriers);
        return r;
}

int modal_exec(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out) {
        struct modal_exec *e;
        int r;

        if (!descriptor_is_left()) /* it would sit there until there is one for its connection */
                return -EMFILE;
        e = calloc(1, sizeof(*e));
        if (!e)
                return -ENOMEM;
        snprintf(e->exec_id, sizeof(e->exec_id), "%s", spec->id);
        e->exec.sandbox = sandbox;
        e->left = (struct buf)BUF_INIT(COMPLAINT_MAX);
        uv_timer_init(modal_template_of(sandbox->backend)->control->client->loop, &e->timer);
        e->timer.data = e;
        /* Who has passed on any byte of stderr has passed on its head, which was no complaint. */
        e->over_head = spec->offsets[STREAM_STDERR] > 0;
        r = begin(e, spec);
        if (r < 0) {
                exec_free(e);
                return r;
        }
        *out = &e->exec;
        return 0;
}
