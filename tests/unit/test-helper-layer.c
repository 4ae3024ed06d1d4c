/* SPDX-License-Identifier: MIT */

/*
 * Jobs over the helper as execs of a backend: the layer of pool/helper/helper.h over a backend that starts the program
 * itself, on this machine. Argument: the program.
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

#include "check.h"
#include "pool/helper/helper.h"
#include "pool/helper/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/uuid.h"
#include "prng.h"

static const char *program;
static struct check_dir dir;
static uv_loop_t loop;
static struct prng dice = { 1 };

/* the backend below: a sandbox is a process `serve`, a stream is a socket to it, which may break after some bytes */

struct box {
        struct sandbox sandbox;
        char path[128];
        uint8_t key[16];
        pid_t pid;
        uv_timer_t timer;
        void (*later)(struct box *b);
};

struct wire {
        struct exec exec;
        int fd;
        uv_poll_t poll;
        bool wants_room;
};

static struct box *newest;
static int64_t bytes_left = INT64_MAX; /* until a stream breaks */
static int64_t bytes_each;             /* of the next streams, at most; 0: they hold */
static unsigned n_streams;

static struct box *box_of(struct sandbox *s) {
        return container_of(s, struct box, sandbox);
}

static void on_later(uv_timer_t *timer) {
        struct box *b = timer->data;

        b->later(b);
}

static void later(struct box *b, void (*what)(struct box *b)) {
        b->later = what;
        uv_timer_start(&b->timer, on_later, 0, 0);
}

static void serve(struct box *b) {
        int fds[2];

        CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
        b->pid = check_fork();
        if (b->pid == 0) {
                dup2(fds[0], 0);
                execl(program, program, "serve", "-f", b->path, NULL);
                _exit(127);
        }
        close(fds[0]);
        CHECK_INT(write(fds[1], b->key, sizeof(b->key)), sizeof(b->key));
        close(fds[1]);
}

static int try_connect(struct box *b) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        strcpy(address.sun_path, b->path);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        close(fd);
        return -1;
}

static void box_created(struct box *b) {
        int fd = try_connect(b);

        if (fd < 0) { /* not yet */
                uv_timer_start(&b->timer, on_later, 10, 0);
                return;
        }
        close(fd);
        sandbox_created(&b->sandbox, &(struct result){});
}

static int box_new(struct backend *backend, const char *nonce, struct sandbox **out) {
        struct box *b = calloc(1, sizeof(*b));

        b->sandbox.backend = backend;
        snprintf(b->sandbox.id, sizeof(b->sandbox.id), "box");
        snprintf(b->path, sizeof(b->path), "%s/socket", dir.path);
        uuid_bytes(nonce, b->key);
        uv_timer_init(&loop, &b->timer);
        b->timer.data = b;
        later(b, box_created);
        newest = b;
        *out = &b->sandbox;
        return 0;
}

static int box_create(struct backend *backend, const char *nonce, struct sandbox **out) {
        int r = box_new(backend, nonce, out);

        serve(box_of(*out));
        return r;
}

/* Another daemon's view of the same. */
static int box_adopt(struct backend *backend, const char *nonce, const char *resume_token, struct sandbox **out) {
        return box_new(backend, nonce, out);
}

static void on_box_closed(uv_handle_t *handle) {
        free(handle->data);
}

static void box_destroyed(struct box *b) {
        int status;

        if (b->pid > 0) {
                kill(b->pid, SIGKILL);
                CHECK_INT(waitpid(b->pid, &status, 0), b->pid);
                unlink(b->path);
        }
        sandbox_destroyed(&b->sandbox, &(struct result){});
        uv_close((uv_handle_t *)&b->timer, on_box_closed);
}

static void box_destroy(struct sandbox *s) {
        later(box_of(s), box_destroyed);
}

static int box_clean(struct sandbox *s, const char *workdir) {
        return -ENOTSUP;
}

static int box_exec(struct sandbox *s, const struct exec_spec *spec, struct exec **out) {
        return -ENOTSUP;
}

/* streams */

static void on_wire_closed(uv_handle_t *handle) {
        free(handle->data);
}

static void wire_close(struct wire *w) {
        close(TAKE_FD(w->fd));
        uv_close((uv_handle_t *)&w->poll, on_wire_closed);
}

static void wire_end(struct wire *w, int code) {
        exec_ended(&w->exec, &(struct result){}, code);
        wire_close(w);
}

static void wire_break(struct wire *w) {
        struct result why;

        result_set(&why, RESULT_FAILED, "it broke");
        exec_ended(&w->exec, &why, 0);
        wire_close(w);
}

static void on_wire(uv_poll_t *poll, int status, int events) {
        struct wire *w = poll->data;
        static uint8_t data[65536];
        ssize_t n;

        if (w->fd < 0) { /* nobody listens */
                exec_output(&w->exec, STREAM_STDERR, "nobody listens", 14);
                wire_end(w, 1);
                return;
        }
        if (bytes_left == 0) {
                wire_break(w);
                return;
        }
        if (events & UV_WRITABLE) {
                uv_poll_start(poll, UV_READABLE, on_wire);
                exec_room(&w->exec);
        }
        if (!(events & UV_READABLE))
                return;
        n = recv(w->fd, data, (size_t)bytes_left < sizeof(data) ? (size_t)bytes_left : sizeof(data), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
                return;
        bytes_left -= n > 0 ? n : 0;
        if (n > 0)
                exec_output(&w->exec, STREAM_STDOUT, data, n);
        if (bytes_left == 0)
                wire_break(w);
        else if (n <= 0)
                wire_end(w, 0);
}

static int box_attach(struct sandbox *s, struct exec **out) {
        struct wire *w = calloc(1, sizeof(*w));
        static int null = -1;

        n_streams++;
        if (bytes_each == 0)
                bytes_left = INT64_MAX;
        else if (n_streams % 8 == 7) /* before anything goes on over it */
                bytes_left = 1 + (int64_t)prng_scaled(&dice, 2000);
        else
                bytes_left = 3000 + (int64_t)prng_scaled(&dice, bytes_each);
        w->exec.sandbox = s;
        w->fd = try_connect(box_of(s));
        if (null < 0) {
                int fds[2];

                CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
                null = fds[0];
                close(fds[1]);
        }
        uv_poll_init(&loop, &w->poll, w->fd < 0 ? dup(null) : w->fd);
        w->poll.data = w;
        uv_poll_start(&w->poll, UV_READABLE, on_wire);
        *out = &w->exec;
        return 0;
}

/* A stream may also break in the middle of what is sent. */
static ssize_t wire_write(struct exec *e, const void *data, size_t len) {
        struct wire *w = container_of(e, struct wire, exec);
        ssize_t n;

        if (w->fd < 0 || bytes_left == 0)
                return -EPIPE;
        if (len > 5000)
                len = 5000; /* short writes are the rule */
        n = send(w->fd, data, (size_t)bytes_left < len ? (size_t)bytes_left : len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
                n = 0;
        bytes_left -= n;
        uv_poll_start(&w->poll, UV_READABLE | UV_WRITABLE, on_wire);
        return n;
}

static void wire_end_input(struct exec *e) {
        shutdown(container_of(e, struct wire, exec)->fd, SHUT_WR);
}

static void wire_cancel(struct exec *e) {
        wire_close(container_of(e, struct wire, exec));
}

static int box_start(struct backend *b, enum backend_use use) {
        backend_ready(b, &(struct result){});
        return 0;
}

static void box_free(struct backend *b) {
        free(b);
}

static const struct backend_ops box_ops = {
        .name = "box",
        .start = box_start,
        .free = box_free,
        .create = box_create,
        .adopt = box_adopt,
        .leave = box_destroy,
        .destroy = box_destroy,
        .clean = box_clean,
        .exec = box_exec,
        .attach = box_attach,
        .exec_write = wire_write,
        .exec_end_input = wire_end_input,
        .exec_cancel = wire_cancel,
};

static void free_nothing(struct backend_client *c) {
}

static const struct backend_client_ops client_ops = { .free = free_nothing };
static struct backend_client client = { .ops = &client_ops };

/* the layer over it, as a daemon has it */

struct daemon {
        struct backend *backend;
        struct sandbox *sandbox;
        bool created, dead, gone;
        struct result why;
};

static const struct helper_options options = { .carrier_idle_us = 600 * USEC_PER_SEC };
static const char nonce[] = "01234567-89ab-4cde-8f01-23456789abcd";

static void on_ready(void *owner, const struct result *r) {
        CHECK(result_ok(r));
}

static void on_notice(void *owner, const char *line) {
        printf("# %s\n", line);
        check_failed_now = true;
}

static const struct backend_events backend_events = { .ready = on_ready, .notice = on_notice };

static void on_created(void *owner, const struct result *r) {
        struct daemon *d = owner;

        CHECK(result_ok(r));
        d->created = true;
}

static void on_died(void *owner, const struct result *why) {
        struct daemon *d = owner;

        d->dead = true;
        d->why = *why;
}

static void on_destroyed(void *owner, const struct result *r) {
        struct daemon *d = owner;

        d->gone = true;
}

static const struct sandbox_events sandbox_events = {
        .created = on_created, .died = on_died, .destroyed = on_destroyed,
};

static uv_timer_t ticker;

static void on_tick(uv_timer_t *timer) {
}

/* Until it is true; a minute is far more than it needs. */
static bool wait_for(const bool *what) {
        int64_t until = clock_now() + 60 * USEC_PER_SEC;

        uv_timer_start(&ticker, on_tick, 5, 5); /* timers of the loop may be what makes it true, and then it sleeps */
        while (!*what && clock_now() < until)
                uv_run(&loop, UV_RUN_ONCE);
        uv_timer_stop(&ticker);
        CHECK(*what);
        return *what;
}

static void daemon_start(struct daemon *d, uint64_t epoch, bool adopts) {
        const struct backend_setup setup = { .shell = "", .base = "", .dir = "", .pool_id = "pool", .epoch = epoch };
        struct backend *b = calloc(1, sizeof(*b));

        *d = (struct daemon){};
        b->ops = &box_ops;
        backend_attach(b, &client);
        CHECK_INT(helper_new(&b, &loop, &options, &setup, NULL), 0);
        d->backend = b;
        CHECK_INT(backend_start(b, BACKEND_TO_CREATE, &backend_events, d), 0);
        CHECK_INT(adopts ? sandbox_adopt(b, nonce, "", &sandbox_events, d, &d->sandbox)
                         : sandbox_create(b, nonce, &sandbox_events, d, &d->sandbox),
                  0);
        wait_for(&d->created);
}

static void daemon_stop(struct daemon *d) {
        sandbox_destroy(d->sandbox);
        wait_for(&d->gone);
        uv_run(&loop, UV_RUN_NOWAIT);
        backend_free(d->backend);
}

/* a job, as its owner has it */

struct job {
        struct exec *exec;
        char id[UUID_SIZE];
        struct blob command, input;
        struct buf streams[2];
        bool started, ended, any, polled, running, room;
        bool enough; /* so much has come: */
        size_t wanted;
        bool hold_at_once;
        struct result result;
        int code;
};

static void job_started(void *owner) {
        struct job *j = owner;

        CHECK(!j->started);
        j->started = true;
}

static void job_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct job *j = owner;

        CHECK(j->started && !j->ended && !j->exec->held);
        CHECK_INT(buf_append(&j->streams[stream], data, len), 0);
        j->any = true;
        j->enough = j->streams[0].len >= j->wanted;
        if (j->hold_at_once)
                exec_hold_output(j->exec, true);
}

static void job_ended(void *owner, const struct result *r, int code) {
        struct job *j = owner;

        CHECK(!j->ended);
        CHECK(!result_ok(r) || j->started);
        j->ended = true;
        j->result = *r;
        j->code = code;
}

static void job_polled(void *owner, bool running) {
        struct job *j = owner;

        j->polled = true;
        j->running = running;
}

static void job_room(void *owner) {
        struct job *j = owner;

        j->room = true;
}

static const struct exec_events job_events = {
        .started = job_started, .output = job_output, .ended = job_ended, .polled = job_polled, .room = job_room,
};

static void job_init(struct job *j, const char *command) {
        *j = (struct job){ .streams = { BUF_INIT(16 << 20), BUF_INIT(16 << 20) } };
        CHECK_INT(uuid_make(j->id), 0);
        blob_init(&j->command, dir.fd, 1 << 20);
        blob_init(&j->input, dir.fd, 16 << 20);
        CHECK_INT(blob_append(&j->command, command, strlen(command)), 0);
}

static struct exec_spec spec_of(const struct job *j) {
        static const char *const env[] = { "LANG=C.UTF-8", "FROM=env", NULL };

        return (struct exec_spec){
                .id = j->id, .shell = "/bin/sh", .command = &j->command, .input = &j->input, .workdir = dir.path,
                .cwd = dir.path, .env = env,
        };
}

static void job_run(struct job *j, struct daemon *d, const struct exec_spec *spec) {
        CHECK_INT(sandbox_exec(d->sandbox, spec, &job_events, j, &j->exec), 0);
}

static void job_start(struct job *j, struct daemon *d, const char *command) {
        struct exec_spec spec;

        job_init(j, command);
        spec = spec_of(j);
        job_run(j, d, &spec);
}

static void job_deinit(struct job *j) {
        blob_deinit(&j->command);
        blob_deinit(&j->input);
        buf_deinit(&j->streams[0]);
        buf_deinit(&j->streams[1]);
}

static void job_expect(struct job *j, int code, const char *out, const char *err) {
        if (wait_for(&j->ended)) {
                CHECK_STR(j->result.text, "");
                CHECK_INT(j->code, code);
                CHECK_STR(buf_text(&j->streams[0]), out);
                CHECK_STR(buf_text(&j->streams[1]), err);
        }
        job_deinit(j);
}

/* tests */

static void a_job(void) {
        struct daemon d;
        struct job j;

        daemon_start(&d, 1, false);
        job_start(&j, &d, "echo out $FROM; echo err >&2; cat; exit 3");
        job_expect(&j, 3, "out env\n", "err\n");
        CHECK_INT(n_streams, 1);
        job_start(&j, &d, "kill -USR1 $$");
        job_expect(&j, 128 + SIGUSR1, "", "");
        CHECK_INT(n_streams, 1);
        daemon_stop(&d);
}

static void no_cwd(void) {
        struct exec_spec spec;
        struct daemon d;
        struct job j;

        daemon_start(&d, 1, false);
        job_init(&j, "echo never");
        spec = spec_of(&j);
        spec.cwd = "/nowhere";
        job_run(&j, &d, &spec);
        wait_for(&j.ended);
        CHECK_INT(j.code, EXEC_NO_CWD);
        CHECK_STR(j.result.text, "cwd: /nowhere is not a directory there");
        CHECK(j.started);
        job_deinit(&j);
        job_init(&j, "echo never");
        spec = spec_of(&j);
        spec.shell = "/nowhere";
        job_run(&j, &d, &spec);
        wait_for(&j.ended);
        CHECK_INT(j.result.code, RESULT_FAILED);
        CHECK_STR(j.result.text, "environment box: starting the shell /nowhere: No such file or directory");
        CHECK(!j.started);
        job_deinit(&j);
        daemon_stop(&d);
}

/* Short ones are copied, long ones are read from their files. */
static void input_of_any_length(void) {
        static char text[300001], command[100001];
        struct exec_spec spec;
        struct daemon d;
        struct job j;

        memset(text, 'x', sizeof(text) - 1);
        snprintf(command, sizeof(command), "cat #%0*d", (int)sizeof(command) - 7, 0);
        daemon_start(&d, 1, false);
        for (size_t len = 1; len < sizeof(text); len = len < 10 ? 4096 : len == 4096 ? 4097 : len * 8) {
                text[len] = '\0';
                job_init(&j, len > 4096 ? command : "cat");
                CHECK_INT(blob_append(&j.input, text, len), 0);
                spec = spec_of(&j);
                job_run(&j, &d, &spec);
                blob_clear(&j.input);
                blob_clear(&j.command);
                job_expect(&j, 0, text, "");
                text[len] = 'x';
        }
        daemon_stop(&d);
}

static void live_input(void) {
        static char text[200001];
        struct exec_spec spec;
        struct daemon d;
        struct job j;
        size_t at = 0;

        memset(text, 'y', sizeof(text) - 1);
        daemon_start(&d, 1, false);
        job_init(&j, "cat");
        spec = spec_of(&j);
        spec.input = NULL;
        spec.live_input = true;
        job_run(&j, &d, &spec);
        while (at < sizeof(text) - 1) {
                ssize_t n = exec_write(j.exec, text + at, sizeof(text) - 1 - at);

                if (n < 0)
                        break;
                at += n;
                j.room = false;
                if (at < sizeof(text) - 1 && !wait_for(&j.room))
                        break;
        }
        exec_end_input(j.exec);
        job_expect(&j, 0, text, "");
        daemon_stop(&d);
}

static void input_that_nobody_reads(void) {
        struct exec_spec spec;
        struct daemon d;
        struct job j;
        ssize_t n;

        daemon_start(&d, 1, false);
        job_init(&j, "exec <&-; echo closed; exec sleep 1000");
        spec = spec_of(&j);
        spec.input = NULL;
        spec.live_input = true;
        job_run(&j, &d, &spec);
        wait_for(&j.any);
        while ((n = exec_write(j.exec, "bytes", 5)) >= 0) {
                j.room = n == 5;
                wait_for(&j.room);
                uv_run(&loop, UV_RUN_NOWAIT);
        }
        CHECK_INT(n, -EPIPE);
        exec_kill(j.exec, 0);
        job_expect(&j, 128 + SIGKILL, "closed\n", "");
        daemon_stop(&d);
}

static void kills(void) {
        struct daemon d;
        struct job j;

        daemon_start(&d, 1, false);
        job_start(&j, &d, "echo here; sleep 1000 & sleep 1000");
        wait_for(&j.any);
        exec_kill(j.exec, 0);
        job_expect(&j, 128 + SIGKILL, "here\n", "");

        job_start(&j, &d, "sleep 1000");
        exec_kill(j.exec, 0); /* before the helper has heard of it */
        job_expect(&j, 128 + SIGKILL, "", "");

        job_start(&j, &d, "exec 2>/dev/null; trap 'echo term; exit 5' TERM; echo here; while :; do sleep 0.01; done");
        wait_for(&j.any);
        exec_kill(j.exec, 30 * USEC_PER_SEC);
        job_expect(&j, 5, "here\nterm\n", "");

        job_start(&j, &d, "exec 2>/dev/null; trap '' TERM; echo here; while :; do sleep 0.01; done");
        wait_for(&j.any);
        exec_kill(j.exec, 1000 * USEC_PER_SEC);
        exec_kill(j.exec, 0);
        job_expect(&j, 128 + SIGKILL, "here\n", "");

        job_start(&j, &d, "exec 2>/dev/null; trap 'exit 6' USR2; echo here; while :; do sleep 0.01; done");
        wait_for(&j.any);
        exec_signal(j.exec, SIGUSR2);
        job_expect(&j, 6, "here\n", "");

        /* More signals than there may be unconfirmed ones, and still the kill gets there. */
        job_start(&j, &d, "trap '' USR1; echo here; while :; do sleep 0.01; done");
        wait_for(&j.any);
        for (int i = 0; i < 20; i++)
                exec_signal(j.exec, SIGUSR1);
        exec_kill(j.exec, 0);
        job_expect(&j, 128 + SIGKILL, "here\n", "");
        daemon_stop(&d);
}

/* What comes while it is held is no more than the window, and the end waits. */
static void output_held_back(void) {
        struct buf expected = BUF_INIT(16 << 20);
        struct daemon d;
        struct job j, other;

        for (int i = 1; i <= 300000; i++)
                buf_printf(&expected, "%d\n", i);
        daemon_start(&d, 1, false);
        job_init(&j, "seq 300000");
        j.hold_at_once = true;
        struct exec_spec spec = spec_of(&j);
        job_run(&j, &d, &spec);
        wait_for(&j.any);
        for (int i = 0; i < 3; i++) {
                j.any = false;
                job_start(&other, &d, "echo goes on");
                job_expect(&other, 0, "goes on\n", "");
                CHECK(!j.any && !j.ended);
                exec_hold_output(j.exec, false);
                wait_for(&j.any);
        }
        j.hold_at_once = false;
        exec_hold_output(j.exec, false);
        job_expect(&j, 0, buf_text(&expected), "");

        /* The end, too. */
        job_init(&j, "echo a; echo b >&2; exit 4");
        spec = spec_of(&j);
        job_run(&j, &d, &spec);
        exec_hold_output(j.exec, true);
        job_start(&other, &d, "echo after");
        job_expect(&other, 0, "after\n", "");
        wait_for(&j.started);
        exec_poll(j.exec);
        while (!j.polled || j.running) {
                wait_for(&j.polled);
                CHECK(!j.any && !j.ended);
                if (!j.running)
                        break;
                j.polled = false;
                exec_poll(j.exec);
        }
        exec_hold_output(j.exec, false);
        CHECK(!j.ended && !j.any);
        job_expect(&j, 4, "a\n", "b\n");
        buf_deinit(&expected);
        daemon_stop(&d);
}

static void polls(void) {
        struct daemon d;
        struct job j;

        daemon_start(&d, 1, false);
        job_start(&j, &d, "echo here; sleep 1000");
        wait_for(&j.any);
        CHECK_INT(exec_poll(j.exec), 0);
        wait_for(&j.polled);
        CHECK(j.running);
        exec_kill(j.exec, 0);
        job_expect(&j, 128 + SIGKILL, "here\n", "");
        daemon_stop(&d);
}

/* Streams break after a few thousand bytes, in both directions and inside frames. */
static void streams_that_break(void) {
        enum { N = 40 };
        static struct job jobs[N];
        struct buf expected = BUF_INIT(16 << 20);
        struct daemon d;

        daemon_start(&d, 1, false);
        n_streams = 0;
        bytes_each = 40000;
        for (int i = 0; i < N; i += 20) {
                for (int k = i; k < i + 20; k++) {
                        char command[100];

                        snprintf(command, sizeof(command), "cat; seq %d; exit %d", k * 100, k);
                        job_init(&jobs[k], command);
                        for (int n = 0; n < k * 50; n++)
                                CHECK_INT(blob_append(&jobs[k].input, "some input\n", 11), 0);
                        struct exec_spec spec = spec_of(&jobs[k]);
                        job_run(&jobs[k], &d, &spec);
                }
                for (int k = i; k < i + 20; k++) {
                        buf_clear(&expected);
                        for (int n = 0; n < k * 50; n++)
                                buf_printf(&expected, "some input\n");
                        for (int n = 1; n <= k * 100; n++)
                                buf_printf(&expected, "%d\n", n);
                        job_expect(&jobs[k], k, buf_text(&expected), "");
                }
        }
        CHECK(n_streams > 10); /* so they broke */
        bytes_each = 0;
        buf_deinit(&expected);
        daemon_stop(&d);
}

/* A newer daemon goes on with the job, by the bytes that the older one had; the older one is told. */
static void a_newer_daemon(void) {
        struct daemon old, new;
        struct exec_spec spec;
        struct job j, again;

        daemon_start(&old, 1, false);
        job_init(&j, "seq 1000; sleep 0.5; seq 1001 2000; sleep 1000");
        spec = spec_of(&j);
        job_run(&j, &old, &spec);
        wait_for(&j.any);
        exec_hold_output(j.exec, true);

        daemon_start(&new, 2, true);
        job_init(&again, "never");
        memcpy(again.id, j.id, sizeof(j.id));
        again.wanted = 8893 - j.streams[0].len;
        spec = spec_of(&again);
        spec.resume = true;
        spec.offsets[0] = j.streams[0].len;
        job_run(&again, &new, &spec);
        wait_for(&again.enough);
        CHECK_INT(buf_append(&j.streams[0], again.streams[0].data, again.streams[0].len), 0);
        CHECK_INT(j.streams[0].len, 8893);
        CHECK(!strncmp(j.streams[0].data + 8893 - 10, "1999\n2000\n", 10));
        exec_kill(again.exec, 0);
        wait_for(&again.ended);
        CHECK_INT(again.code, 128 + SIGKILL);
        job_deinit(&again);

        wait_for(&old.dead);
        CHECK_STR(old.why.text, "environment box: another daemon uses it now");
        exec_cancel(j.exec);
        job_deinit(&j);

        /* One that the helper does not know. */
        job_init(&j, "never");
        spec = spec_of(&j);
        spec.resume = true;
        job_run(&j, &new, &spec);
        wait_for(&j.ended);
        CHECK_INT(j.result.code, RESULT_FAILED);
        job_deinit(&j);
        daemon_stop(&new);
        daemon_stop(&old);
}

/* More than may be under way, so that the helper has dropped some of it when all has come. */
#define MUCH (HELPER_WINDOW_MAX + (64 << 10))
#define WAIT_FOR_GO "while ! [ -e go ]; do sleep 0.01; done; "

static void run_much(struct job *j, struct daemon *d, const char *then) {
        char command[128];
        struct exec_spec spec;

        snprintf(command, sizeof(command), "head -c %d /dev/zero; %s", MUCH, then);
        job_init(j, command);
        j->wanted = MUCH;
        spec = spec_of(j);
        job_run(j, d, &spec);
        wait_for(&j->enough);
        exec_hold_output(j->exec, true);
}

/* Of its output, 100 bytes were kept. */
static void go_on_with(struct job *j, const struct job *before, struct daemon *d, bool refused) {
        struct exec_spec spec;

        job_init(j, "never");
        memcpy(j->id, before->id, sizeof(j->id));
        spec = spec_of(j);
        spec.resume = true;
        spec.output_refused = refused;
        spec.offsets[0] = 100;
        job_run(j, d, &spec);
}

/*
 * The older daemon took output that it had no room for. The newer one follows such a job to its end where it knows that,
 * else it gives the job up. The others in the sandbox are not disturbed.
 */
static void output_that_was_refused(void) {
        static const char *const then[] = { "sleep 1000", WAIT_FOR_GO "exit 7", WAIT_FOR_GO "echo more; sleep 1000" };
        struct job before[3], after[3], other;
        struct daemon old, new;

        daemon_start(&old, 1, false);
        for (int i = 0; i < 3; i++)
                run_much(&before[i], &old, then[i]);
        daemon_start(&new, 2, true);
        for (int i = 0; i < 3; i++)
                go_on_with(&after[i], &before[i], &new, i < 2);
        job_start(&other, &new, "touch go");
        job_expect(&other, 0, "", "");
        exec_kill(after[0].exec, 0);
        for (int i = 0; i < 3; i++)
                wait_for(&after[i].ended);
        CHECK_INT(after[0].code, 128 + SIGKILL);
        CHECK_INT(after[1].code, 7);
        CHECK_INT(after[2].result.code, RESULT_FAILED);
        CHECK_STR(after[2].result.text,
                  "environment box: some of its output is lost: an earlier run of the daemon could not keep it");
        CHECK_INT(unlinkat(dir.fd, "go", 0), 0);
        wait_for(&old.dead);
        for (int i = 0; i < 3; i++) {
                CHECK(after[i].streams[0].len < MUCH - 100);
                exec_cancel(before[i].exec);
                job_deinit(&before[i]);
                job_deinit(&after[i]);
        }
        daemon_stop(&new);
        daemon_stop(&old);
}

static void a_cancelled_job_goes_on(void) {
        struct daemon d;
        struct job j;

        daemon_start(&d, 1, false);
        job_start(&j, &d, "echo here; sleep 0.3; echo more; touch there; sleep 1000");
        wait_for(&j.any);
        exec_cancel(j.exec);
        job_deinit(&j);
        job_start(&j, &d, "while ! [ -e there ]; do sleep 0.01; done; rm there; echo seen");
        job_expect(&j, 0, "seen\n", "");
        daemon_stop(&d);
}

static void a_helper_that_is_killed(void) {
        struct daemon d;
        struct job j;

        daemon_start(&d, 1, false);
        job_start(&j, &d, "echo here; sleep 1000");
        wait_for(&j.any);
        kill(newest->pid, SIGKILL);
        wait_for(&d.dead);
        CHECK_STR(d.why.text, "environment box: its helper is gone: nobody listens");
        CHECK_INT(d.why.code, RESULT_LOST);
        exec_cancel(j.exec);
        job_deinit(&j);
        daemon_stop(&d);
}

int main(int argc, char **argv) {
        program = argc == 2 ? argv[1] : "";
        signal(SIGPIPE, SIG_IGN);
        dir = check_dir_make();
        uv_loop_init(&loop);
        uv_timer_init(&loop, &ticker);
        RUN(a_job);
        RUN(no_cwd);
        RUN(input_of_any_length);
        RUN(live_input);
        RUN(input_that_nobody_reads);
        RUN(kills);
        RUN(output_held_back);
        RUN(polls);
        RUN(streams_that_break);
        RUN(a_newer_daemon);
        RUN(output_that_was_refused);
        RUN(a_cancelled_job_goes_on);
        RUN(a_helper_that_is_killed);
        uv_close((uv_handle_t *)&ticker, NULL);
        CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
        CHECK_INT(uv_loop_close(&loop), 0);
        check_dir_remove(&dir);
        return check_done();
}
