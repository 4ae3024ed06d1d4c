/* SPDX-License-Identifier: MIT */

/* Streams to the helper of a local sandbox, in bubblewrap and without. Argument: the helper. */

#include <errno.h>
#include <string.h>
#include <uv.h>

#include "check.h"
#include "pool/backend/local/local.h"
#include "pool/base/config.h"
#include "pool/helper/client.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"
#include "pool/util/uuid.h"
#include "unexpected.h"

#define DEADLINE_US (60 * USEC_PER_SEC)

static const char nonce[] = "01234567-89ab-4def-8123-456789abcdef";

static const char *program;
static struct check_dir environments; /* of isolate=none */
static uv_loop_t loop;
static struct backend_client *provider;
static struct backend *backend;
static struct sandbox *sandbox;
static bool ready, died;
static struct result created;

static struct exec *stream;
static unsigned n_started, n_ended, n_room;
static uint64_t n_read;

static struct client *client;
static struct client_job *job;
static const char *command;
static struct buf output;
static struct client_end end;
static bool opened, ended, hold_in_output;

static void on_tick(uv_timer_t *timer) {
}

/* Turns of the loop until it is so. */
static void until(bool (*so)(void)) {
        int64_t deadline = clock_now() + DEADLINE_US;
        uv_timer_t tick;

        uv_timer_init(&loop, &tick);
        uv_timer_start(&tick, on_tick, 20, 20);
        while (!so() && clock_now() < deadline)
                uv_run(&loop, UV_RUN_ONCE);
        CHECK(so());
        uv_close((uv_handle_t *)&tick, NULL);
        uv_run(&loop, UV_RUN_NOWAIT);
}

/* the sandbox */

static void on_ready(void *owner, const struct result *r) {
        CHECK_STR(r->text, "");
        ready = true;
}

static void on_created(void *owner, const struct result *r) {
        created = *r;
}

static void on_died(void *owner, const struct result *why) {
        died = true;
}

static void on_cleaned(void *owner, const struct result *r, const struct sandbox_changes *changes) {
        CHECK(false);
}

static void on_destroyed(void *owner, const struct result *r) {
        CHECK_INT(r->code, RESULT_OK);
        sandbox = NULL;
}

static const struct backend_events backend_events = { .ready = on_ready };
static const struct sandbox_events sandbox_events = { on_created, on_died, on_cleaned, on_destroyed };

static bool is_ready(void) {
        return ready;
}

static bool is_live(void) {
        return sandbox->state == SANDBOX_LIVE;
}

static bool is_dead(void) {
        return died;
}

static bool is_gone(void) {
        return !sandbox;
}

static void open_sandbox(const char *isolate) {
        static const struct option_table *const tables[] = { &local_options, NULL };
        const struct backend_setup setup = { .shell = "sh", .base = "/root", .dir = environments.path, .pool_id = "", .mountpoint = "" };
        struct config config;
        struct result why = {};

        CHECK_INT(config_init(&config, tables), 0);
        CHECK_INT(config_set(&config, "size", "64M", CONFIG_COMMAND_LINE, &why), 0);
        CHECK_INT(config_set(&config, "isolate", isolate, CONFIG_COMMAND_LINE, &why), 0);
        CHECK_INT(config_set(&config, "orphan_timeout", "0", CONFIG_COMMAND_LINE, &why), 0); /* nobody comes back */
        CHECK_INT(uv_loop_init(&loop), 0);
        CHECK_INT(local_client_new(&provider, &loop, program), 0);
        CHECK_INT(local_new(&backend, provider, config_values(&config, &local_options), &setup, false), 0);
        config_deinit(&config);
        ready = died = false;
        CHECK_INT(backend_start(backend, BACKEND_TO_CREATE, &backend_events, NULL), 0);
        until(is_ready);
        CHECK_INT(sandbox_create(backend, nonce, &sandbox_events, NULL, &sandbox), 0);
        CHECK(sandbox_has_helper(sandbox));
        until(is_live);
}

static void close_sandbox(void) {
        sandbox_destroy(sandbox);
        until(is_gone);
        CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);      /* it has no process, */
        CHECK_INT(check_dir_entries(&environments), 0); /* and no directory */
        backend_free(backend);
        backend_client_free(provider);
        uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(uv_loop_close(&loop), 0);
}

/* the stream */

static void send_all(void) {
        static uint8_t out[2 * FRAME_MAX];
        int64_t now = clock_now();
        size_t n;

        while (client && client_send_at(client, now) <= now && (n = client_send(client, out, sizeof(out), now)) > 0)
                CHECK_INT(exec_write(stream, out, n), n); /* nothing here sends more than is kept */
}

static void stream_started(void *owner) {
        CHECK_INT(n_read, 0);
        n_started++;
}

static void stream_output(void *owner, enum stream which, const void *data, size_t len) {
        CHECK_INT(which, STREAM_STDOUT);
        CHECK(!stream->held);
        n_read += len;
        if (hold_in_output)
                exec_hold_output(stream, true);
        if (client)
                client_receive(client, data, len, clock_now());
        send_all();
}

static void stream_ended(void *owner, const struct result *r, int code) {
        CHECK_INT(r->code, RESULT_LOST);
        stream = NULL;
        n_ended++;
}

static void stream_room(void *owner) {
        n_room++;
}

static const struct exec_events stream_events = {
        .started = stream_started, .output = stream_output, .ended = stream_ended, .room = stream_room
};

static bool has_started(void) {
        return n_started == 1;
}

static bool has_ended(void) {
        return n_ended == 1;
}

static bool has_room(void) {
        return n_room == 1;
}

static bool is_held(void) {
        return stream->held;
}

static void attach(void) {
        n_started = n_ended = n_room = 0;
        n_read = 0;
        CHECK_INT(sandbox_attach(sandbox, &stream_events, NULL, &stream), 0);
        CHECK_INT(n_started, 0);
}

/* jobs */

static void on_open(void *owner) {
        opened = true;
}

static const struct client_events client_events = { .open = on_open, UNEXPECTED_CLIENT_EVENTS };

static void job_started(void *owner) {
}

static void job_output(void *owner, unsigned which, const void *data, size_t len) {
        CHECK_INT(buf_append(&output, data, len), 0);
        client_job_acknowledge(job, (uint64_t[]){ output.len, 0 });
}

static void job_missed(void *owner, unsigned stream, uint64_t offset) {
        check_failed_now = true;
}

static bool job_command(void *owner, uint64_t offset, void *data, size_t len) {
        memcpy(data, command + offset, len);
        return true;
}

static bool job_input(void *owner, uint64_t offset, void *data, size_t len) {
        memset(data, 'i', len);
        return true;
}

static void job_taken(void *owner, uint64_t offset) {
}

static void job_ended(void *owner, const struct client_end *how) {
        end = *how;
        ended = true;
        client_job_free(job);
}

static const struct client_job_events job_events = {
        job_started, job_output, job_missed, job_command, job_input, job_taken, job_ended
};

static bool has_opened(void) {
        return opened;
}

static bool job_has_ended(void) {
        return ended;
}

static void open_client(void) {
        uint8_t key[HELPER_KEY_SIZE];

        uuid_bytes(nonce, key);
        opened = false;
        attach();
        CHECK_INT(client_new(&client, key, "pool", 1, &client_events, NULL), 0);
        CHECK_INT(client_carrier_new(client, clock_now()), 0);
        send_all(); /* before it has started */
        until(has_opened);
        CHECK(has_started());
}

static void start(const char *text, uint8_t flags) {
        static const char *const none[] = { NULL };
        static uint8_t number;
        struct client_job_spec spec = {
                .id = { ++number }, .flags = flags, .shell = "", .workdir = "/root/work", .cwd = "/root/work", .user = "",
                .env = none, .command_len = strlen(text),
        };

        command = text;
        buf_clear(&output);
        ended = false;
        CHECK_INT(client_job_start(client, &spec, &job_events, NULL, &job), 0);
}

static void close_client(void) {
        client_free(client);
        client = NULL;
        exec_cancel(stream);
}

/* All that passes, in both directions, with output that is held back again and again. */
static void jobs(void) {
        open_client();
        start("pwd; cat | wc -c; exit 3", START_FRESH | START_INPUT);
        client_job_input(job, 300000, true);
        send_all();
        until(job_has_ended);
        CHECK_INT(end.how, HELPER_END_EXIT);
        CHECK_INT(end.value, 3);
        CHECK(strstr(buf_text(&output), "/root/work\n300000\n"));

        hold_in_output = true;
        start("seq 200000", 0);
        send_all();
        while (!ended && !check_failed_now) {
                until(is_held);
                exec_hold_output(stream, false);
        }
        hold_in_output = false;
        exec_hold_output(stream, false);
        CHECK_INT(end.value, 0);
        CHECK_INT(output.len, 1288895);
        CHECK(output.len > 7 && !strcmp(output.data + output.len - 7, "200000\n"));
        close_client();
}

static void jobs_in_bubblewrap(void) {
        open_sandbox("bwrap");
        jobs();
        close_sandbox();
}

static void jobs_without(void) {
        open_sandbox("none");
        jobs();
        close_sandbox();
}

/* The end of the sandbox is the end of what runs in it. */
static void ends_with_the_sandbox(void) {
        for (int i = 0; i < 2; i++) {
                open_sandbox(i == 0 ? "bwrap" : "none");
                open_client();
                start("sleep 1000 & setsid sleep 1000 & (env -i setsid sleep 1000 &); sleep 1000", 0);
                send_all();
                uv_run(&loop, UV_RUN_ONCE);
                client_job_free(job);
                close_client();
                close_sandbox();
        }
}

/* no HELLO */

static pid_t helper_pid(void) {
        char text[64] = "";
        FILE *f = fopen("/proc/thread-self/children", "r");
        pid_t pid = -1;

        if (f && fgets(text, sizeof(text), f))
                pid = atoi(text);
        if (f)
                fclose(f);
        CHECK(pid > 0);
        return pid;
}

/* A helper that does not read is sent no more than is kept for it, and then there is room again. */
static void writes_are_bounded(void) {
        static char bytes[EXEC_INPUT_MAX];
        size_t total = 0;
        pid_t helper;
        ssize_t n;

        open_sandbox("none");
        helper = helper_pid();
        CHECK_INT(kill(helper, SIGSTOP), 0);
        attach();
        until(has_started);
        while ((n = exec_write(stream, bytes, sizeof(bytes))) == sizeof(bytes) && total < 64 << 20)
                total += n;
        CHECK(n >= 0 && total > 0 && total < 8 << 20);
        CHECK_INT(exec_write(stream, bytes, 1), 0);
        uv_run(&loop, UV_RUN_NOWAIT);
        CHECK_INT(n_room, 0);
        CHECK_INT(kill(helper, SIGCONT), 0);
        until(has_room); /* the bytes are no HELLO: it closes the stream with what it has not read */
        until(has_ended);
        attach();
        exec_end_input(stream);
        until(has_ended);
        close_sandbox();
}

static void held_at_the_end(void) {
        open_sandbox("bwrap");
        attach();
        until(has_started);
        exec_hold_output(stream, true);
        CHECK_INT(exec_write(stream, "nonsense", 8), 8);
        while (exec_write(stream, "n", 1) == 1)
                uv_run(&loop, UV_RUN_NOWAIT);
        CHECK_INT(exec_write(stream, "n", 1), -EPIPE);
        CHECK_INT(n_ended, 0);
        exec_hold_output(stream, false);
        until(has_ended);
        close_sandbox();
}

static void a_killed_helper(void) {
        open_sandbox("none");
        attach();
        until(has_started);
        CHECK_INT(kill(helper_pid(), SIGKILL), 0);
        until(has_ended);
        until(is_dead);
        CHECK_INT(check_dir_entries(&environments), 1);
        CHECK_INT(remove_contents(environments.fd), 0); /* which nobody else does any more */
        close_sandbox();
}

int main(int argc, char **argv) {
        _cleanup_(cleanup_free) char *path = argc == 2 ? realpath(argv[1], NULL) : NULL;

        program = path ?: "";
        environments = check_dir_make();
        signal(SIGPIPE, SIG_IGN);
        output = (struct buf)BUF_INIT(16 << 20);
        RUN(jobs_in_bubblewrap);
        RUN(jobs_without);
        RUN(ends_with_the_sandbox);
        RUN(writes_are_bounded);
        RUN(held_at_the_end);
        RUN(a_killed_helper);
        buf_deinit(&output);
        check_dir_remove(&environments);
        return check_done();
}
