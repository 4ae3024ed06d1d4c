/* SPDX-License-Identifier: MIT */

/*
 * Jobs over the helper as execs of a backend: the layer of pool/helper/helper.h over a backend that starts the program
 * itself, on this machine. Argument: the program.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "check.h"
#include "helper-box.h"
#include "pool/helper/helper.h"
#include "pool/helper/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/uuid.h"

static struct check_dir dir;
static uv_loop_t loop;

/* the layer over it, as a daemon has it */

struct daemon {
        struct backend *backend;
        struct sandbox *sandbox;
        bool created, dead, gone;
        struct result why;
};

static const struct helper_options options = { .use = HELPER_AUTO, .carrier_idle_us = 600 * USEC_PER_SEC };
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
        static const struct helper_program no_program;
        const struct backend_setup setup = { .shell = "", .base = "", .dir = "", .pool_id = "pool", .epoch = epoch };
        struct backend *b = box_backend_new();
        struct result why;

        *d = (struct daemon){};
        CHECK_INT(helper_new(&b, &loop, &options, &setup, &no_program, &why), 0);
        d->backend = b;
        CHECK_INT(backend_start(b, BACKEND_TO_CREATE, &backend_events, d), 0);
        CHECK_INT(adopts ? sandbox_adopt(b, nonce, "", false, &sandbox_events, d, &d->sandbox)
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
        bool started, ended, any, polled, running;
        const char *text; /* kept input: */
        uint64_t offered, has;
        bool taken, closed;
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

static bool job_read_input(void *owner, uint64_t offset, void *data, size_t len) {
        struct job *j = owner;

        CHECK(offset >= j->has && offset + len <= j->offered);
        memcpy(data, j->text + offset, len);
        return true;
}

static void job_input_taken(void *owner, uint64_t offset, bool closed) {
        struct job *j = owner;

        CHECK(offset >= j->has);
        j->has = offset;
        j->taken = true;
        j->closed = closed;
}

static const struct exec_events job_events = {
        .started = job_started, .output = job_output, .ended = job_ended, .polled = job_polled,
        .read_input = job_read_input, .input_taken = job_input_taken,
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
        CHECK_INT(boxes.n_streams, 1);
        job_start(&j, &d, "kill -USR1 $$");
        job_expect(&j, 128 + SIGUSR1, "", "");
        CHECK_INT(boxes.n_streams, 1);
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

/* A few bytes more with each that the sandbox has; what it has is not read again. */
static void kept_input(void) {
        static char text[200001];
        struct exec_spec spec;
        struct daemon d;
        struct job j;

        memset(text, 'y', sizeof(text) - 1);
        daemon_start(&d, 1, false);
        job_init(&j, "cat");
        spec = spec_of(&j);
        spec.input = NULL;
        spec.kept_input = true;
        j.text = text;
        job_run(&j, &d, &spec);
        while (j.offered < sizeof(text) - 1) {
                j.offered += sizeof(text) - 1 - j.offered < 7777 ? sizeof(text) - 1 - j.offered : 7777;
                j.taken = false;
                exec_offer_input(j.exec, j.offered, false);
                if (!wait_for(&j.taken))
                        break;
        }
        exec_offer_input(j.exec, j.offered, true);
        job_expect(&j, 0, text, "");
        daemon_stop(&d);
}

static void input_that_nobody_reads(void) {
        struct exec_spec spec;
        struct daemon d;
        struct job j;

        daemon_start(&d, 1, false);
        job_init(&j, "exec <&-; echo closed; exec sleep 1000");
        spec = spec_of(&j);
        spec.input = NULL;
        spec.kept_input = true;
        j.text = "bytes";
        job_run(&j, &d, &spec);
        wait_for(&j.any);
        j.offered = 5;
        exec_offer_input(j.exec, j.offered, false);
        wait_for(&j.closed);
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
        boxes.n_streams = 0;
        boxes.bytes_each = 40000;
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
        CHECK(boxes.n_streams > 10); /* so they broke */
        boxes.bytes_each = 0;
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

/* The newer daemon offers all of it anew, and sends what the helper does not have. */
static void kept_input_goes_on(void) {
        static char text[600001];
        struct daemon old, new;
        struct exec_spec spec;
        struct job j, again, other;

        for (size_t i = 0; i < sizeof(text) - 1; i++)
                text[i] = (char)('a' + i % 23);
        daemon_start(&old, 1, false);
        job_init(&j, "head -c 1000; " WAIT_FOR_GO "cat");
        j.text = text;
        j.wanted = 1000;
        spec = spec_of(&j);
        spec.input = NULL;
        spec.kept_input = true;
        job_run(&j, &old, &spec);
        j.offered = 400000;
        exec_offer_input(j.exec, j.offered, false);
        wait_for(&j.enough);
        wait_for(&j.taken);

        daemon_start(&new, 2, true);
        job_init(&again, "never");
        memcpy(again.id, j.id, sizeof(j.id));
        again.text = text;
        spec = spec_of(&again);
        spec.resume = spec.kept_input = true;
        spec.input = NULL;
        spec.offsets[0] = j.streams[0].len;
        job_run(&again, &new, &spec);
        again.offered = j.offered;
        exec_offer_input(again.exec, again.offered, false);
        wait_for(&again.taken);
        CHECK(again.has >= j.has && again.has < 400000);
        again.offered = sizeof(text) - 1;
        exec_offer_input(again.exec, again.offered, true);
        job_start(&other, &new, "touch go");
        job_expect(&other, 0, "", "");
        job_expect(&again, 0, text + j.streams[0].len, "");
        CHECK_INT(unlinkat(dir.fd, "go", 0), 0);
        wait_for(&old.dead);
        exec_cancel(j.exec);
        job_deinit(&j);
        daemon_stop(&new);
        daemon_stop(&old);
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

static void job_start_when_there_is_room(struct job *j, struct daemon *d, const char *command) {
        int64_t until = clock_now() + 60 * USEC_PER_SEC;
        struct exec_spec spec;
        int r;

        job_init(j, command);
        spec = spec_of(j);
        uv_timer_start(&ticker, on_tick, 5, 5);
        while ((r = sandbox_exec(d->sandbox, &spec, &job_events, j, &j->exec)) == -EAGAIN && clock_now() < until)
                uv_run(&loop, UV_RUN_ONCE);
        uv_timer_stop(&ticker);
        CHECK_INT(r, 0);
}

/* Jobs of an earlier run that print without end, as many as there can be: they are killed, and new ones take their places. */
static void jobs_that_nobody_wants(void) {
        static struct job before[HELPER_JOBS_MAX], after[HELPER_JOBS_MAX];
        struct daemon old, new;

        daemon_start(&old, 1, false);
        for (int i = 0; i < HELPER_JOBS_MAX; i++) {
                job_start(&before[i], &old, "exec yes");
                before[i].hold_at_once = true;
        }
        for (int i = 0; i < HELPER_JOBS_MAX; i++)
                wait_for(&before[i].any);
        daemon_start(&new, 2, true);
        for (int i = 0; i < HELPER_JOBS_MAX; i++)
                job_start_when_there_is_room(&after[i], &new, WAIT_FOR_GO "echo there");
        CHECK_INT(close(openat(dir.fd, "go", O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
        for (int i = 0; i < HELPER_JOBS_MAX; i++)
                job_expect(&after[i], 0, "there\n", "");
        CHECK_INT(unlinkat(dir.fd, "go", 0), 0);
        wait_for(&old.dead);
        for (int i = 0; i < HELPER_JOBS_MAX; i++) {
                exec_cancel(before[i].exec);
                job_deinit(&before[i]);
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
        kill(boxes.newest->pid, SIGKILL);
        wait_for(&d.dead);
        CHECK_STR(d.why.text, "environment box: its helper is gone: nobody listens");
        CHECK_INT(d.why.code, RESULT_LOST);
        exec_cancel(j.exec);
        job_deinit(&j);
        daemon_stop(&d);
}

int main(int argc, char **argv) {
        boxes.program = argc == 2 ? argv[1] : "";
        boxes.loop = &loop;
        signal(SIGPIPE, SIG_IGN);
        dir = check_dir_make();
        boxes.dir = dir.path;
        uv_loop_init(&loop);
        uv_timer_init(&loop, &ticker);
        RUN(a_job);
        RUN(no_cwd);
        RUN(input_of_any_length);
        RUN(kept_input);
        RUN(input_that_nobody_reads);
        RUN(kills);
        RUN(output_held_back);
        RUN(polls);
        RUN(streams_that_break);
        RUN(a_newer_daemon);
        RUN(kept_input_goes_on);
        RUN(output_that_was_refused);
        RUN(jobs_that_nobody_wants);
        RUN(a_cancelled_job_goes_on);
        RUN(a_helper_that_is_killed);
        uv_close((uv_handle_t *)&ticker, NULL);
        CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
        CHECK_INT(uv_loop_close(&loop), 0);
        check_dir_remove(&dir);
        return check_done();
}
