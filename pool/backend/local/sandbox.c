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
#include "pool/util/crash.h"
#include "pool/util/io.h"
#include "pool/util/log.h"
#include "pool/util/uuid.h"

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

        close_fd(h == (uv_handle_t *)&s->control ? TAKE_FD(s->control_fd) : TAKE_FD(s->errors_fd));
        handle_closed(s);
}

static void close_errors(struct local_sandbox *s) {
        if (!uv_is_closing((uv_handle_t *)&s->errors))
                uv_close((uv_handle_t *)&s->errors, on_poll_closed);
}

/* The process has ended, and with it everything in its namespace; or it is left to a later run. */
static void sandbox_finish(struct local_sandbox *s) {
        struct result ok = {};

        crash_point("helper", "has ended");
        sandbox_destroyed(&s->sandbox, &ok);
        list_remove(&s->awaited);
        uv_close((uv_handle_t *)&s->timer, on_handle_closed);
        if (s->controlled)
                uv_close((uv_handle_t *)&s->control, on_poll_closed);
        if (s->adopted)
                return;
        close_errors(s);
        uv_close((uv_handle_t *)&s->process, on_handle_closed);
}

static void read_errors(struct local_sandbox *s) {
        ssize_t n;

        while (!s->adopted && !uv_is_closing((uv_handle_t *)&s->errors) && s->error_len < sizeof(s->error_text) - 1 &&
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
                local_stop_saving(s);
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

        snprintf(what, sizeof(what), "%s cannot be executed: %s", l->isolate ? l->client->bwrap : l->client->helper,
                 strerror(-s->spawned));
        sandbox_broke(s, what);
}

static void on_destroy_timeout(uv_timer_t *timer) {
        struct local_sandbox *s = timer->data;

        log_warning("environment=%s: does not end by itself, killing it", s->sandbox.id);
        local_kill_helper(s);
        if (s->adopted)
                sandbox_finish(s);
        else
                uv_process_kill(&s->process, SIGKILL);
}

/*
 * There is no process to wait for, or none has come back. The answer comes from the loop, never from inside the call.
 */
static void on_absent(uv_timer_t *timer) {
        sandbox_finish(timer->data);
}

void local_destroy(struct sandbox *sandbox) {
        struct local_sandbox *s = local_sandbox(sandbox);
        bool is_there = s->adopted ? s->controlled && !s->hung_up : s->running;

        if (s->adopted && !s->controlled && !s->sandbox.resume_token) {
                uv_timer_start(&s->timer, on_absent, DESTROY_TIMEOUT_MS, 0); /* it may come back, see local_take_control() */
                return;
        }
        local_stop_saving(s);
        crash_point("helper", "is told to end");
        local_send_end(s); /* the helper kills everything and ends */
        if (s->controlled && !s->adopted) {
                uv_poll_stop(&s->control);
                shutdown(s->control_fd, SHUT_RDWR);
        }
        if (!is_there)
                local_kill_helper(s);
        uv_timer_start(&s->timer, is_there ? on_destroy_timeout : on_absent, is_there ? DESTROY_TIMEOUT_MS : 0, 0);
}

/* Its helper waits for the next daemon. */
void local_leave(struct sandbox *sandbox) {
        struct local_sandbox *s = local_sandbox(sandbox);

        if (!s->sandbox.resume_token || !local_survives(sandbox_local(s))) {
                local_destroy(sandbox);
                return;
        }
        local_stop_saving(s);
        if (sandbox_local(s)->leaves_for_ever)
                local_send_wait(s, UINT64_MAX);
        if (s->controlled)
                uv_poll_stop(&s->control);
        uv_timer_start(&s->timer, on_absent, 0, 0);
}

/* The helper serves. @pid: its process. */
static void on_hello(struct local_sandbox *s, pid_t pid) {
        struct result ok = {};

        crash_point("helper", "serves");
        uv_timer_stop(&s->timer);
        close_errors(s);
        local_note_helper(s, pid);
        if (local_survives(sandbox_local(s))) {
                local_make_token(s);
                local_send_wait(s, (uint64_t)sandbox_local(s)->options.orphan_us);
        }
        if (s->sandbox.state == SANDBOX_CREATING)
                sandbox_created(&s->sandbox, &ok);
}

/* A byte, and which process of this machine has sent it; 0: it does not say. */
static ssize_t receive_hello(int fd, pid_t *pid) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(struct ucred))];
        } control = {};
        char byte;
        struct iovec iov = { &byte, 1 };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
        struct ucred sender = {};

        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
                memcpy(&sender, CMSG_DATA(c), sizeof(sender));
        *pid = sender.pid;
        return n;
}

/* It has one thing to say. When it closes the socket, its exit status, which follows at once, says more. */
static void on_control(uv_poll_t *poll, int status, int events) {
        struct local_sandbox *s = poll->data;
        pid_t pid;
        ssize_t n = receive_hello(s->control_fd, &pid);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        uv_poll_stop(poll);
        if (n == 1)
                on_hello(s, pid);
}

/* An adopted one has nothing to say; its end is seen here alone. */
static void on_adopted_control(uv_poll_t *poll, int status, int events) {
        struct local_sandbox *s = poll->data;
        char byte;
        ssize_t n = recv(s->control_fd, &byte, 1, MSG_DONTWAIT);

        if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
                return;
        uv_poll_stop(poll);
        s->hung_up = true;
        sandbox_broke(s, "its first process has ended");
        if (s->sandbox.state == SANDBOX_ENDING)
                sandbox_finish(s);
}

void local_take_control(struct local_sandbox *s, int fd) {
        s->control_fd = fd;
        s->controlled = true;
        uv_poll_init(sandbox_local(s)->client->loop, &s->control, fd);
        s->control.data = s;
        s->n_handles++;
        uv_poll_start(&s->control, UV_READABLE, on_adopted_control);
        if (s->sandbox.state == SANDBOX_ENDING)
                local_destroy(&s->sandbox);
}

int local_send_descriptor(struct local_sandbox *s, int fd) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(fd))];
        } control = {};
        char byte = 0;
        struct iovec iov = { &byte, 1 };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        return sendmsg(s->control_fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* The helper's key. */
static int send_key(struct local_sandbox *s, const char *nonce) {
        unsigned char key[16];
        int r;

        uuid_bytes(nonce, key);
        r = send(s->control_fd, key, sizeof(key), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
        explicit_bzero(key, sizeof(key));
        return r;
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

/* When no helper will do this. */
static void remove_dir(struct local_sandbox *s) {
        if (*s->dir)
                remove_tree(AT_FDCWD, s->dir);
}

static int spawn_helper(struct local *l, struct local_sandbox *s, int control, int errors, int snapshot) {
        uv_stdio_container_t stdio[] = {
                { .flags = UV_INHERIT_FD, .data.fd = control },
                { .flags = UV_IGNORE },
                { .flags = UV_INHERIT_FD, .data.fd = errors },
                { .flags = UV_INHERIT_FD, .data.fd = snapshot },
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
                                .stdio_count = snapshot < 0 ? 3 : 4,
                                .stdio = stdio,
                        });
}

int local_create(struct backend *b, const char *nonce, struct sandbox **out) {
        struct local *l = container_of(b, struct local, backend);
        _cleanup_(cleanup_close) int inner = -1, inner_errors = -1, snapshot = *l->snapshot ? local_open_snapshot(l) : -1;
        struct local_sandbox *s;
        int fds[2], r;

        if (*l->snapshot && snapshot < 0)
                return snapshot;

        s = calloc(1, sizeof(*s) + (l->isolate ? 1 : strlen(l->dir) + 24));
        if (!s)
                return -ENOMEM;
        list_init(&s->awaited);
        l->client->last_number++;
        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "local-%u", l->client->last_number);
        s->sandbox.one_user = l->isolate ? "bubblewrap gives it one user of this machine"
                                         : "with isolate=none all jobs run as the daemon's user";
        if (!l->isolate) {
                /*
                 * With its nonce: the helper of an earlier run may still be removing a directory of this number. A
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
        s->control_fd = fds[0];
        inner = fds[1];
        setsockopt(s->control_fd, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int));
        r = send_key(s, nonce);
        if (r == 0 && pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                r = -errno;
        if (r < 0) {
                close(s->control_fd);
                goto fail;
        }
        s->errors_fd = fds[0];
        inner_errors = fds[1];

        crash_point("helper", "is started");
        s->spawned = spawn_helper(l, s, inner, inner_errors, snapshot);
        crash_point("helper", "was started");
        s->process.data = s;
        s->running = s->spawned == 0;
        uv_poll_init(l->client->loop, &s->control, s->control_fd);
        uv_poll_init(l->client->loop, &s->errors, s->errors_fd);
        uv_timer_init(l->client->loop, &s->timer);
        s->n_handles = 4;
        s->controlled = true;
        s->control.data = s->errors.data = s->timer.data = s;
        uv_poll_start(&s->control, UV_READABLE, on_control);
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
