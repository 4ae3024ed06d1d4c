/* SPDX-License-Identifier: MIT */

/*
 * drive BACKEND [POOL_ID…]: a backend without a pool, told by lines on standard input what to do and telling
 * by lines on standard output what came of it. So one run can be killed and another go on with what it left. Each of
 * several POOL_IDs is a template over the same client; commands concern the first, until another is chosen. It holds
 * one sandbox and one exec; bytes are in hexadecimal; INPUT is a file. Credentials come from the environment. It ends
 * with its input. DRIVE_FAULTS in the environment makes faults, see fault.h; DRIVE_SANDBOX is Modal's option sandbox.
 *
 *   create NONCE · adopt NONCE [TOKEN]     created CODE EXPIRES-IN-SECONDS ID TOKEN | TEXT
 *   exec UUID start|STDOUT:STDERR COMMAND INPUT    started · output N BYTES · ended CODE EXIT TEXT
 *   live UUID COMMAND                        likewise, with live input
 *   write BYTES · eof · hold · give          wrote N, or wrote -ERRNO · room; hold and give do nothing after the end
 *   signal N · kill GRACE-IN-MILLISECONDS · cancel
 *   clean WORKDIR                            cleaned CODE TEXT; of changes the first path
 *   destroy · leave                          destroyed CODE TEXT
 *   list                                     found ID NONCE CREATED · listed CODE TEXT
 *   calls                                    call METHOD STATUS N RETRIES TOOK · counted
 *   pool N                                   which POOL_ID, from 0
 *
 * A command that is refused is answered by "refused ERRNO".
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "fs/daemon/backends.h"
#include "pool/lease/limits.h"
#include "pool/util/clock.h"

#define LINE_SIZE_MAX (1 << 20)
#define POOLS_MAX 4

static uv_loop_t loop;
static struct backend_client *client;
static struct backend *backends[POOLS_MAX], *backend;
static struct sandbox *sandbox;
static struct exec *exec_;
static struct buf lines = BUF_INIT(LINE_SIZE_MAX);

/* Live input over a helper: what that does not have yet. */
static struct buf kept_input = BUF_INIT(EXEC_INPUT_MAX);
static uint64_t kept_begin; /* its first byte */
static bool kept_closed, kept_short;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vprintf(format, ap);
        va_end(ap);
        putchar('\n');
        fflush(stdout);
}

static void refused(int r) {
        if (r < 0)
                say("refused %d", -r);
}

/* events */

static void on_ready(void *owner, const struct result *r) {
        say("ready %s %s", result_code_name(r->code), r->text);
}

static void on_notice(void *owner, const char *line) {
}

static void on_found(void *owner, const struct sandbox_found *found) {
        say("found %s %s %" PRId64, found->id, *found->nonce ? found->nonce : "-", found->created_wall_us);
}

static void on_listed(void *owner, const struct result *r) {
        say("listed %s %s", result_code_name(r->code), r->text);
}

static const struct backend_events backend_events = {
        .ready = on_ready,
        .notice = on_notice,
        .found = on_found,
        .listed = on_listed,
};

static void on_created(void *owner, const struct result *r) {
        if (result_ok(r))
                say("created ok %" PRId64 " %s %s", (sandbox->expires_us - clock_now()) / USEC_PER_SEC, sandbox->id,
                    sandbox->resume_token ?: "-");
        else
                say("created %s %s", result_code_name(r->code), r->text);
}

static void on_died(void *owner, const struct result *why) {
        say("died %s %s", result_code_name(why->code), why->text);
}

static void on_cleaned(void *owner, const struct result *r, const struct sandbox_changes *changes) {
        say("cleaned %s %s", result_code_name(r->code), sandbox_changes_first(changes) ?: r->text);
}

static void on_destroyed(void *owner, const struct result *r) {
        sandbox = NULL;
        say("destroyed %s %s", result_code_name(r->code), r->text);
}

static const struct sandbox_events sandbox_events = {
        .created = on_created,
        .died = on_died,
        .cleaned = on_cleaned,
        .destroyed = on_destroyed,
};

static void on_started(void *owner) {
        say("started");
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
        printf("output %d ", stream);
        for (size_t i = 0; i < len; i++)
                printf("%02x", ((const unsigned char *)data)[i]);
        say("%s", "");
}

static void on_ended(void *owner, const struct result *r, int code) {
        exec_ = NULL;
        say("ended %s %d %s", result_code_name(r->code), code, r->text);
}

static void on_room(void *owner) {
        say("room");
}

static bool on_read_input(void *owner, uint64_t offset, void *data, size_t len) {
        memcpy(data, kept_input.data + (offset - kept_begin), len);
        return true;
}

static void on_input_taken(void *owner, uint64_t offset, bool closed) {
        if (offset > kept_begin)
                buf_drop(&kept_input, offset - kept_begin);
        kept_begin = offset;
        kept_closed = closed;
        if (kept_short)
                say("room");
        kept_short = false;
}

static const struct exec_events exec_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
        .room = on_room,
        .read_input = on_read_input,
        .input_taken = on_input_taken,
};

static void on_calls(void *data, const struct backend_calls *c) {
        say("call %s %s %" PRIu64 " %" PRIu64 " %" PRId64, c->method, c->status, c->n, c->retries, c->took_us);
}

/* commands */

static void read_hex(const char *text, struct blob *out) {
        unsigned byte;

        blob_init(out, AT_FDCWD, LINE_SIZE_MAX);
        for (; sscanf(text, "%2x", &byte) == 1; text += 2)
                if (blob_append(out, &(unsigned char){ byte }, 1) < 0)
                        abort();
}

static void read_file(const char *path, struct blob *out) {
        char bytes[65536];
        FILE *f = fopen(path, "r");
        size_t n;

        blob_init(out, AT_FDCWD, INPUT_SIZE_MAX);
        while (f && (n = fread(bytes, 1, sizeof(bytes), f)) > 0)
                if (blob_append(out, bytes, n) < 0)
                        abort();
        if (f)
                fclose(f);
}

static void run(const char **words, bool live) {
        static const char *const plain[] = { "LANG=C.UTF-8", NULL };
        char mark[64];
        const char *env[] = { plain[0], mark, NULL };
        struct blob command, input;
        struct exec_spec spec = {
                .id = words[1], .shell = "", .workdir = "/root/drive", .cwd = "/root/drive", .fresh = true, .env = env
        };

        snprintf(mark, sizeof(mark), "%s=%s", EXEC_MARK, words[1]);
        if (live) {
                read_hex(words[2], &command);
                spec.live_input = sandbox->plain;
                spec.kept_input = !sandbox->plain;
                buf_clear(&kept_input);
                kept_begin = 0;
                kept_closed = kept_short = false;
        } else {
                spec.resume = sscanf(words[2], "%" SCNu64 ":%" SCNu64, &spec.offsets[0], &spec.offsets[1]) == 2;
                read_hex(words[3], &command);
        }
        read_file(live ? "/dev/null" : words[4], &input);
        spec.command = &command;
        spec.input = live ? NULL : &input;
        refused(sandbox_exec(sandbox, &spec, &exec_events, NULL, &exec_));
        blob_deinit(&command);
        blob_deinit(&input);
}

static ssize_t keep_input(const char *data, size_t len) {
        size_t room = kept_input.max - kept_input.len, n = len < room ? len : room;

        if (kept_closed || sandbox->state != SANDBOX_LIVE)
                return -EPIPE;
        if (buf_append(&kept_input, data, n) < 0)
                abort();
        exec_offer_input(exec_, kept_begin + kept_input.len, false);
        kept_short = n < len;
        return n;
}

static void end_input(void) {
        if (exec_->live_input)
                exec_end_input(exec_);
        else
                exec_offer_input(exec_, kept_begin + kept_input.len, true);
}

static void write_bytes(const char *hex) {
        struct blob bytes;
        char *data;

        read_hex(hex, &bytes);
        data = malloc(bytes.size);
        if (!data || blob_read(&bytes, 0, data, bytes.size) != (ssize_t)bytes.size)
                abort();
        say("wrote %zd", exec_->live_input ? exec_write(exec_, data, bytes.size) : keep_input(data, bytes.size));
        free(data);
        blob_deinit(&bytes);
}

/* Whether it is a command about the exec. What comes when that has just ended is late: it does nothing. */
static bool obey_for_exec(const char **words) {
        if (!strcmp(words[0], "write")) {
                if (exec_)
                        write_bytes(words[1]);
                else
                        say("wrote %d", -EPIPE);
        } else if (!strcmp(words[0], "eof")) {
                if (exec_)
                        end_input();
        } else if (!strcmp(words[0], "hold") || !strcmp(words[0], "give")) {
                if (exec_)
                        exec_hold_output(exec_, !strcmp(words[0], "hold"));
        } else if (!strcmp(words[0], "kill")) {
                if (exec_)
                        exec_kill(exec_, atoi(words[1]) * USEC_PER_MSEC);
        } else {
                return false;
        }
        return true;
}

static void obey(char *line) {
        const char *words[5] = { "", "", "", "", "" };
        const char *resume_token = "";

        for (size_t i = 0; i < 5 && line; i++) {
                words[i] = strsep(&line, " ");
                if (i == 1 && !strcmp(words[0], "adopt") && line) {
                        resume_token = line;
                        break;
                }
        }
        if (!strcmp(words[0], "create")) {
                refused(sandbox_create(backend, words[1], &sandbox_events, NULL, &sandbox));
        } else if (!strcmp(words[0], "adopt")) {
                refused(sandbox_adopt(backend, words[1], resume_token, false, &sandbox_events, NULL, &sandbox));
        } else if (!strcmp(words[0], "exec")) {
                run(words, false);
        } else if (!strcmp(words[0], "live")) {
                run(words, true);
        } else if (obey_for_exec(words)) {
                return;
        } else if (!strcmp(words[0], "signal")) {
                exec_signal(exec_, atoi(words[1]));
        } else if (!strcmp(words[0], "cancel")) {
                exec_cancel(exec_);
                exec_ = NULL;
        } else if (!strcmp(words[0], "clean")) {
                refused(sandbox_clean(sandbox, words[1]));
        } else if (!strcmp(words[0], "destroy")) {
                sandbox_destroy(sandbox);
        } else if (!strcmp(words[0], "leave")) {
                sandbox_leave(sandbox);
        } else if (!strcmp(words[0], "list")) {
                refused(backend_list(backend));
        } else if (!strcmp(words[0], "calls")) {
                backend_client_each_call(client, on_calls, NULL);
                say("counted");
        } else if (!strcmp(words[0], "pool")) {
                backend = backends[atoi(words[1]) % POOLS_MAX];
        } else {
                say("unknown %s", words[0]);
        }
}

static void on_input(uv_poll_t *poll, int status, int events) {
        char bytes[65536], *end;
        ssize_t n = read(0, bytes, sizeof(bytes));

        if (n <= 0) {
                uv_poll_stop(poll);
                uv_stop(&loop);
                return;
        }
        if (buf_append(&lines, bytes, n) < 0)
                abort();
        while (lines.len > 0 && (end = memchr(lines.data, '\n', lines.len))) {
                char *line = strndup(lines.data, end - lines.data);
                size_t len = end + 1 - lines.data;

                memmove(lines.data, lines.data + len, lines.len - len);
                lines.len -= len;
                obey(line);
                free(line);
        }
}

static void close_handle(uv_handle_t *handle, void *data) {
        if (!uv_is_closing(handle))
                uv_close(handle, NULL);
}

static struct config config;

/* Small and short-lived sandboxes, and faults if they are asked for. An option of another backend does nothing. */
static int set_options(const char *backend_name, struct result *why) {
        const char *const options[][2] = {
                { "backend", backend_name },      { "size", "64M" },
                { "modal_config", "/dev/null" },  { "lifetime", "600" },
                { "fault", getenv("DRIVE_FAULTS") ?: "" }, { "sandbox", getenv("DRIVE_SANDBOX") ?: "auto" },
                { "helper", getenv("DRIVE_HELPER") ?: "no" }, { "orphan_timeout", "0" },
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < sizeof(options) / sizeof(options[0]); i++)
                r = config_set(&config, options[i][0], options[i][1], CONFIG_COMMAND_LINE, why);
        return r < 0 ? r : config_read_environment(&config, why);
}

static int open_backends(char **argv, int n, struct result *why) {
        const struct state state = { .environments = (char[]){ "" }, .epoch = (uint64_t)clock_read_us(CLOCK_REALTIME) };
        int r = set_options(argv[1], why);

        if (r == 0)
                r = provider_connect(&client, &loop, &config, why);
        for (int i = 0; i < n && r == 0; i++)
                r = provider_open(&backends[i], client, &loop, &config, "", &state, argv[i + 2] ?: "", "/drive", why);
        return r;
}

int main(int argc, char **argv) {
        int n = argc == 2 ? 1 : argc - 2;
        struct result why = {};
        uv_poll_t poll;

        if (n < 1 || n > POOLS_MAX)
                return 2;
        signal(SIGPIPE, SIG_IGN);
        uv_loop_init(&loop);
        if (config_init(&config, provider_tables) < 0)
                return 2;
        if (open_backends(argv, n, &why) < 0) {
                say("ready %s %s", result_code_name(why.code), why.text);
                return 1;
        }
        backend = backends[0];
        for (int i = 0; i < n; i++)
                refused(backend_start(backends[i], BACKEND_TO_CREATE, &backend_events, NULL));
        uv_poll_init(&loop, &poll, 0);
        uv_poll_start(&poll, UV_READABLE, on_input);
        uv_run(&loop, UV_RUN_DEFAULT);

        /* Whoever ends the input with a sandbox in hand wants what a crash leaves. */
        if (sandbox)
                _exit(0);
        for (int i = 0; i < n; i++)
                backend_free(backends[i]);
        backend_client_free(client);
        uv_walk(&loop, close_handle, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        buf_deinit(&lines);
        config_deinit(&config);
        return uv_loop_close(&loop) == 0 ? 0 : 3;
}
