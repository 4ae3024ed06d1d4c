/* SPDX-License-Identifier: MIT */

/* The life of a sandbox: its process, and what it says. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/backend/local/internal.h"
#include "pool/util/cleanup.h"
#include "pool/util/io.h"
#include "pool/util/log.h"

#define CREATE_TIMEOUT_MS 30000
#define DESTROY_TIMEOUT_MS 5000 /* then bwrap is killed, and its namespace with it */

static void handle_closed(struct local_sandbox *s) {
        if (--s->n_handles == 0)
                free(s);
}

static void on_handle_closed(uv_handle_t *h) {
        handle_closed(h->data);
}

/* A descriptor is closed only here: until then libuv may still touch its number. */
static void on_poll_closed(uv_handle_t *h) {
        struct local_sandbox *s = h->data;

        close_fd(h == (uv_handle_t *)&s->socket ? TAKE_FD(s->socket_fd) : TAKE_FD(s->errors_fd));
        handle_closed(s);
}

static void close_errors(struct local_sandbox *s) {
        if (!uv_is_closing((uv_handle_t *)&s->errors))
                uv_close((uv_handle_t *)&s->errors, on_poll_closed);
}

/* The process has ended, and with it everything in its namespace. */
static void sandbox_finish(struct local_sandbox *s) {
        struct result ok = {};

        local_close_left_open(s);
        sandbox_destroyed(&s->sandbox, &ok);
        close_errors(s);
        uv_close((uv_handle_t *)&s->socket, on_poll_closed);
        uv_close((uv_handle_t *)&s->timer, on_handle_closed);
        uv_close((uv_handle_t *)&s->process, on_handle_closed);
}

static void read_errors(struct local_sandbox *s) {
        ssize_t n;

        while (!uv_is_closing((uv_handle_t *)&s->errors) && s->error_len < sizeof(s->error_text) - 1 &&
               (n = read(s->errors_fd, s->error_text + s->error_len, sizeof(s->error_text) - 1 - s->error_len)) > 0)
                s->error_len += n;
        s->error_text[s->error_len] = '\0';
}

/* It died by itself: report that once. */
static void sandbox_broke(struct local_sandbox *s, const char *what) {
        struct result why;

        read_errors(s);
        switch (s->sandbox.state) {
        case SANDBOX_CREATING:
                result_set(&why, RESULT_FAILED, "local environment not created: %s%s%s", what,
                           s->error_len ? ": " : "", s->error_text);
                sandbox_created(&s->sandbox, &why);
                break;
        case SANDBOX_LIVE:
                result_set(&why, RESULT_LOST, "environment %s is gone: %s", s->sandbox.id, what);
                sandbox_died(&s->sandbox, &why);
                break;
        case SANDBOX_FAILED:
        case SANDBOX_DEAD:
        case SANDBOX_ENDING:
        case SANDBOX_GONE:
                break;
        }
}

static void on_process_exit(uv_process_t *process, int64_t status, int signo) {
        struct local_sandbox *s = process->data;
        char what[64];

        s->running = false;
        if (signo)
                snprintf(what, sizeof(what), "its first process was ended by signal %d", signo);
        else
                snprintf(what, sizeof(what), "its first process ended with status %" PRId64, status);
        sandbox_broke(s, what);
        if (s->sandbox.state == SANDBOX_ENDING)
                sandbox_finish(s);
}

static void on_create_timeout(uv_timer_t *timer) {
        sandbox_broke(timer->data, "it did not answer in time");
}

static void on_not_spawned(uv_timer_t *timer) {
        struct local_sandbox *s = timer->data;
        struct local *l = sandbox_local(s);
        char what[4400];

        snprintf(what, sizeof(what), "%s cannot be executed: %s", l->isolate ? l->client->bwrap : l->client->agent,
                 strerror(-s->spawned));
        sandbox_broke(s, what);
}

static void on_destroy_timeout(uv_timer_t *timer) {
        struct local_sandbox *s = timer->data;

        log_warning("environment=%s: does not end by itself, killing it", s->sandbox.id);
        uv_process_kill(&s->process, SIGKILL);
}

/* There is no process to wait for. The answer comes from the loop, never from inside the call. */
static void on_destroy_absent(uv_timer_t *timer) {
        sandbox_finish(timer->data);
}

void local_destroy(struct sandbox *sandbox) {
        struct local_sandbox *s = local_sandbox(sandbox);

        uv_poll_stop(&s->socket);
        shutdown(s->socket_fd, SHUT_RDWR); /* the agent kills everything and ends */
        if (s->running)
                uv_timer_start(&s->timer, on_destroy_timeout, DESTROY_TIMEOUT_MS, 0);
        else
                uv_timer_start(&s->timer, on_destroy_absent, 0, 0);
}

static void on_reply(struct local_sandbox *s, const struct agent_reply *reply) {
        struct result r = {};

        switch (reply->type) {
        case AGENT_HELLO:
                uv_timer_stop(&s->timer);
                close_errors(s);
                if (s->sandbox.state == SANDBOX_CREATING)
                        sandbox_created(&s->sandbox, &r);
                break;
        case AGENT_STARTED:
        case AGENT_POLLED:
        case AGENT_ENDED:
        case AGENT_NO_CWD:
        case AGENT_FAILED:
                local_exec_reply(s, reply);
                break;
        case AGENT_CLEANED:
                if (reply->text[0])
                        result_set(&r, RESULT_FAILED, "%s", reply->text);
                if (s->sandbox.cleaning)
                        sandbox_cleaned(&s->sandbox, &r);
                break;
        }
}

static void on_socket(uv_poll_t *poll, int status, int events) {
        struct local_sandbox *s = poll->data;
        struct agent_reply reply;

        /* Until no reply is left, or a reply led to its destruction. */
        while (s->sandbox.state != SANDBOX_ENDING) {
                ssize_t n = recv(s->socket_fd, &reply, sizeof(reply), MSG_DONTWAIT);

                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n != sizeof(reply)) {
                        /* Its exit status, which follows at once, says more than a closed socket. */
                        uv_poll_stop(&s->socket);
                        return;
                }
                reply.text[sizeof(reply.text) - 1] = '\0';
                on_reply(s, &reply);
        }
}

static void on_errors(uv_poll_t *poll, int status, int events) {
        struct local_sandbox *s = poll->data;

        read_errors(s);
        uv_poll_stop(poll);
}

/* The directory is ours alone: -EEXIST where there is one. */
static int make_dir(struct local_sandbox *s) {
        static const char *const inner[] = { "home", "tmp", "run" };
        char path[4600];
        int r = 0;

        if (mkdir(s->dir, 0700) < 0) {
                r = -errno;
                *s->dir = '\0';
        }
        for (size_t i = 0; r == 0 && i < sizeof(inner) / sizeof(inner[0]); i++) {
                snprintf(path, sizeof(path), "%s/%s", s->dir, inner[i]);
                r = make_path(AT_FDCWD, path, 0700);
        }
        return r;
}

/* When no agent will do this. */
static void remove_dir(struct local_sandbox *s) {
        if (*s->dir)
                remove_tree(AT_FDCWD, s->dir);
}

static int spawn_agent(struct local *l, struct local_sandbox *s, int socket, int errors) {
        uv_stdio_container_t stdio[] = {
                { .flags = UV_IGNORE },
                { .flags = UV_IGNORE },
                { .flags = UV_INHERIT_FD, .data.fd = errors },
                { .flags = UV_INHERIT_FD, .data.fd = socket },
        };
        struct local_command command;

        local_command_init(&command, l, s);
        return uv_spawn(l->client->loop, &s->process,
                        &(uv_process_options_t){
                                .exit_cb = on_process_exit,
                                .file = command.argv[0],
                                .args = (char **)command.argv,
                                .env = (char **)command.env,
                                .cwd = "/",
                                .flags = UV_PROCESS_DETACHED, /* a terminal's ^C is for the daemon only */
                                .stdio_count = 4,
                                .stdio = stdio,
                        });
}

int local_create(struct backend *b, const char *nonce, struct sandbox **out) {
        struct local *l = container_of(b, struct local, backend);
        _cleanup_(cleanup_close) int inner = -1, inner_errors = -1;
        struct local_sandbox *s;
        int fds[2], r;

        s = calloc(1, sizeof(*s) + (l->isolate ? 1 : strlen(l->dir) + 24));
        if (!s)
                return -ENOMEM;
        l->client->last_number++;
        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "local-%u", l->client->last_number);
        list_init(&s->execs);
        list_init(&s->left_open);
        if (!l->isolate) {
                /*
                 * With its nonce: the agent of an earlier run may still be removing a directory of this number. A
                 * socket's path is short.
                 */
                sprintf(s->dir, "%s/%u-%.8s", l->dir, l->client->last_number, nonce);
                r = make_dir(s);
                if (r < 0)
                        goto fail;
        }
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
                r = -errno;
                goto fail;
        }
        s->socket_fd = fds[0];
        inner = fds[1];
        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
                r = -errno;
                close(s->socket_fd);
                goto fail;
        }
        s->errors_fd = fds[0];
        inner_errors = fds[1];

        s->spawned = spawn_agent(l, s, inner, inner_errors);
        s->process.data = s;
        s->running = s->spawned == 0;
        uv_poll_init(l->client->loop, &s->socket, s->socket_fd);
        uv_poll_init(l->client->loop, &s->errors, s->errors_fd);
        uv_timer_init(l->client->loop, &s->timer);
        s->n_handles = 4;
        s->socket.data = s->errors.data = s->timer.data = s;
        uv_poll_start(&s->socket, UV_READABLE, on_socket);
        uv_poll_start(&s->errors, UV_READABLE, on_errors);
        if (s->running) {
                uv_timer_start(&s->timer, on_create_timeout, CREATE_TIMEOUT_MS, 0);
        } else {
                /* libuv has the handle now, so it must be closed like that of a broken one. */
                uv_timer_start(&s->timer, on_not_spawned, 0, 0);
                remove_dir(s);
        }
        *out = &s->sandbox;
        return 0;
fail:
        remove_dir(s);
        free(s);
        return r;
}
