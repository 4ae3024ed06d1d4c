/* SPDX-License-Identifier: MIT */

/*
 * Jobs in a local sandbox: requests to the agent, and the streams of output
 * that come back.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/backend/local/internal.h"
#include "pool/backend/local/stdin.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"
#include "pool/util/log.h"

#define OUTPUT_GRACE_MS 100 /* for output still on its way when the shell has ended */
#define READ_SIZE (64 << 10)
#define READS_AT_ONCE 16 /* then other handles have their turn; together at least what the largest pipe holds */
#define LEFT_OPEN_MAX 64 /* streams of ended jobs that background processes still hold */

static void on_end_closed(uv_handle_t *h) {
        struct stream_end *end = h->data;

        close(end->fd);
        free(end);
}

static void end_close(struct stream_end *end) {
        if (end->owner) {
                list_remove(&end->link);
                end->owner->n_left_open--;
        }
        uv_close((uv_handle_t *)&end->poll, on_end_closed);
}

/* Read what is there, unless it is held back. False at the end of the stream. */
static bool end_read(struct stream_end *end, int most) {
        static char chunk[READ_SIZE];

        for (int i = 0; i < most; i++) {
                ssize_t n;

                if (end->exec && end->exec->exec.held)
                        return true;
                n = read(end->fd, chunk, sizeof(chunk));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN;
                if (n == 0)
                        return false;
                if (end->exec)
                        exec_output(&end->exec->exec, end->stream, chunk, n);
        }
        return true;
}

static void exec_maybe_finish(struct local_exec *e);

static void on_readable(uv_poll_t *poll, int status, int events) {
        struct stream_end *end = poll->data;
        struct local_exec *e = end->exec;

        if (end_read(end, READS_AT_ONCE))
                return;
        if (e)
                e->ends[end->stream] = NULL;
        end_close(end);
        if (e)
                exec_maybe_finish(e);
}

static int end_new(struct stream_end **out, struct local *l, struct local_exec *e, enum stream stream, int fd) {
        struct stream_end *end = calloc(1, sizeof(*end));
        int r;

        if (!end)
                return -ENOMEM;
        r = uv_poll_init(l->client->loop, &end->poll, fd); /* makes it non-blocking */
        if (r < 0) {
                free(end);
                return r;
        }
        end->poll.data = end;
        end->fd = fd;
        end->exec = e;
        end->stream = stream;
        list_init(&end->link);
        uv_poll_start(&end->poll, UV_READABLE, on_readable);
        *out = end;
        return 0;
}

/* A background process may hold the stream. Go on reading, so that it neither blocks nor gets SIGPIPE. */
static void end_leave_open(struct local_sandbox *s, struct stream_end *end) {
        end->exec = NULL;
        end->owner = s;
        uv_poll_start(&end->poll, UV_READABLE, on_readable); /* its output may have been held back */
        list_add_tail(&s->left_open, &end->link);
        if (++s->n_left_open > LEFT_OPEN_MAX)
                end_close(list_first(&s->left_open, struct stream_end, link));
}

/* execs */

static void on_exec_closed(uv_handle_t *h) {
        struct local_exec *e = h->data;

        free(e);
}

/* Free the exec. Its streams are drained as long as a process holds them. */
static void exec_drop(struct local_exec *e) {
        struct local_sandbox *s = local_sandbox(e->exec.sandbox);

        list_remove(&e->link);
        for (int i = 0; i < N_STREAMS; i++)
                if (e->ends[i])
                        end_leave_open(s, TAKE_PTR(e->ends[i]));
        local_stdin_free(e->input);
        uv_close((uv_handle_t *)&e->grace, on_exec_closed);
}

static void exec_finish(struct local_exec *e) {
        exec_ended(&e->exec, &e->result, e->code);
        exec_drop(e);
}

static void exec_maybe_finish(struct local_exec *e) {
        if (e->finished && !e->exec.held && !e->ends[0] && !e->ends[1])
                exec_finish(e);
}

/* If the loop was busy, this may come late: read what has arrived in the meantime. */
static void on_grace_over(uv_timer_t *timer) {
        struct local_exec *e = timer->data;

        for (int i = 0; i < N_STREAMS; i++)
                if (e->ends[i])
                        (void)end_read(e->ends[i], READS_AT_ONCE);
        if (!e->exec.held)
                exec_finish(e);
}

/* It has ended: take the output that is there, and wait a moment for the rest. */
static void exec_take_rest(struct local_exec *e) {
        for (int i = 0; i < N_STREAMS; i++)
                if (e->ends[i] && !end_read(e->ends[i], READS_AT_ONCE))
                        end_close(TAKE_PTR(e->ends[i]));
        if (e->exec.held)
                return;
        if (e->ends[0] || e->ends[1])
                uv_timer_start(&e->grace, on_grace_over, OUTPUT_GRACE_MS, 0);
        else
                exec_finish(e);
}

/* Output that was held back is given again. */
static void on_given(uv_timer_t *timer) {
        exec_take_rest(timer->data);
}

/* The agent has said how it ended, and the result is set. */
static void exec_on_end(struct local_exec *e, int code) {
        e->code = code;
        e->finished = true;
        exec_take_rest(e);
}

static struct local_exec *find_exec(struct local_sandbox *s, uint32_t number) {
        struct local_exec *e;

        list_for_each (e, &s->execs, link)
                if (e->number == number)
                        return e;
        return NULL;
}

static int send_request(struct local_sandbox *s, const struct agent_request *q, size_t text_len, const int *fds,
                        size_t n_fds) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(4 * sizeof(int))];
        } control = {};
        struct iovec iov = { (void *)q, offsetof(struct agent_request, text) + text_len };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (n_fds > 0) {
                struct cmsghdr *c;

                m.msg_control = &control;
                m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        }
        return sendmsg(s->socket_fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static int append_string(struct buf *b, const char *prefix, const char *string) {
        int r = buf_append(b, prefix, strlen(prefix));

        return r < 0 ? r : buf_append(b, string, strlen(string) + 1);
}

/*
 * What is before a path of the agent: the directory of an environment without isolation holds the workdir and all below
 * it; every other path is the machine's.
 */
static const char *root_of(const struct local_sandbox *s, const char *path, const char *workdir) {
        size_t len = strlen(workdir);

        return !strncmp(path, workdir, len) && (!path[len] || path[len] == '/') ? s->dir : "";
}

/* The strings of an exec request, as a file: there is no other way for 16 MiB in one message. */
static int make_strings(struct local_sandbox *s, const struct exec_spec *spec, uint32_t *n_env, int *out) {
        struct buf head = BUF_INIT(4 << 20);
        _cleanup_(cleanup_close) int fd = -1;
        char chunk[READ_SIZE];
        uint64_t at, done = 0;
        ssize_t n = 0;
        int r;

        r = append_string(&head, "", spec->shell);
        if (r == 0)
                r = append_string(&head, s->dir, spec->workdir);
        if (r == 0)
                r = append_string(&head, root_of(s, spec->cwd, spec->workdir), spec->cwd);
        for (*n_env = 0; r == 0 && spec->env[*n_env]; (*n_env)++)
                r = append_string(&head, "", spec->env[*n_env]);
        if (r == 0) {
                fd = memfd_create("modalpool-exec", MFD_CLOEXEC);
                r = fd < 0 ? -errno : write_at(fd, head.data, head.len, 0);
        }
        at = head.len;
        buf_deinit(&head);
        for (; r == 0 && (n = blob_read(spec->command, done, chunk, sizeof(chunk))) > 0; done += n)
                r = write_at(fd, chunk, n, at + done);
        if (r == 0 && n < 0)
                r = n;
        if (r == 0)
                r = write_at(fd, "", 1, at + done);
        if (r < 0)
                return r;
        *out = TAKE_FD(fd);
        return 0;
}

static void on_room(void *owner) {
        struct local_exec *e = owner;

        exec_room(&e->exec);
}

/* Where the job's standard input comes from, for the agent. */
static int open_input(struct local_exec *e, uv_loop_t *loop, const struct exec_spec *spec, int *out) {
        int fds[2], r;

        if (!spec->live_input) {
                *out = spec->input ? blob_open(spec->input) : open("/dev/null", O_RDONLY | O_CLOEXEC);
                return *out < 0 ? -errno : 0;
        }
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        *out = fds[0];
        r = local_stdin_new(&e->input, loop, fds[1], on_room, e);
        if (r < 0)
                close(fds[1]);
        return r;
}

int local_exec(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out) {
        struct local_sandbox *s = local_sandbox(sandbox);
        struct local *l = sandbox_local(s);
        struct agent_request q = { .type = AGENT_EXEC, .fresh = spec->fresh };
        _cleanup_(cleanup_close) int strings = -1, input = -1;
        int pipes[N_STREAMS][2] = { { -1, -1 }, { -1, -1 } };
        struct local_exec *e;
        int r;

        e = calloc(1, sizeof(*e));
        if (!e)
                return -ENOMEM;
        e->number = q.job = ++s->last_exec;
        list_init(&e->link);
        e->exec.sandbox = sandbox;
        uv_timer_init(l->client->loop, &e->grace);
        e->grace.data = e;

        r = make_strings(s, spec, &q.n_env, &strings);
        if (r == 0)
                r = open_input(e, l->client->loop, spec, &input);
        for (int i = 0; r == 0 && i < N_STREAMS; i++) {
                if (pipe2(pipes[i], O_CLOEXEC) < 0)
                        r = -errno;
                else
                        r = end_new(&e->ends[i], l, e, i, pipes[i][0]);
                if (r == 0)
                        pipes[i][0] = -1; /* the end's now */
        }
        if (r == 0)
                r = send_request(s, &q, 0, (int[]){ strings, input, pipes[0][1], pipes[1][1] }, 4);

        for (int i = 0; i < N_STREAMS; i++) {
                close_fd(pipes[i][0]);
                close_fd(pipes[i][1]);
                if (r < 0 && e->ends[i])
                        end_close(TAKE_PTR(e->ends[i]));
        }
        if (r < 0) {
                local_stdin_free(e->input);
                uv_close((uv_handle_t *)&e->grace, on_exec_closed);
                return r;
        }
        list_add_tail(&s->execs, &e->link);
        *out = &e->exec;
        return 0;
}

void local_exec_signal(struct exec *exec, int signo) {
        struct local_exec *e = container_of(exec, struct local_exec, exec);
        struct agent_request q = { .type = AGENT_SIGNAL, .job = e->number, .signo = signo };
        struct local_sandbox *s = local_sandbox(exec->sandbox);
        int r = send_request(s, &q, 0, NULL, 0);

        if (r < 0)
                log_warning("environment=%s: signal %d not sent: %s", s->sandbox.id, signo, strerror(-r));
}

int local_exec_poll(struct exec *exec) {
        struct local_exec *e = container_of(exec, struct local_exec, exec);
        struct agent_request q = { .type = AGENT_POLL, .job = e->number };

        return send_request(local_sandbox(exec->sandbox), &q, 0, NULL, 0);
}

ssize_t local_exec_write(struct exec *exec, const void *data, size_t len) {
        return local_stdin_write(container_of(exec, struct local_exec, exec)->input, data, len);
}

void local_exec_end_input(struct exec *exec) {
        local_stdin_end(container_of(exec, struct local_exec, exec)->input);
}

/* Where nothing reads the pipes, whoever writes to them waits. */
void local_exec_hold_output(struct exec *exec) {
        struct local_exec *e = container_of(exec, struct local_exec, exec);

        for (int i = 0; i < N_STREAMS; i++)
                if (e->ends[i] && exec->held)
                        uv_poll_stop(&e->ends[i]->poll);
                else if (e->ends[i])
                        uv_poll_start(&e->ends[i]->poll, UV_READABLE, on_readable);
        uv_timer_stop(&e->grace);
        if (e->finished && !exec->held) /* not from inside the call */
                uv_timer_start(&e->grace, on_given, 0, 0);
}

void local_exec_kill(struct exec *exec, int64_t grace_us) {
        struct local_exec *e = container_of(exec, struct local_exec, exec);
        struct agent_request q = { .type = AGENT_KILL, .job = e->number };
        struct local_sandbox *s = local_sandbox(exec->sandbox);
        int r;

        q.grace_ms = (grace_us + USEC_PER_MSEC - 1) / USEC_PER_MSEC;
        r = send_request(s, &q, 0, NULL, 0);
        if (r < 0)
                log_warning("environment=%s: kill not sent: %s", s->sandbox.id, strerror(-r));
}

void local_exec_cancel(struct exec *exec) {
        exec_drop(container_of(exec, struct local_exec, exec));
}

int local_clean(struct sandbox *sandbox, const char *workdir) {
        struct local_sandbox *s = local_sandbox(sandbox);
        struct agent_request q = { .type = AGENT_CLEAN };
        int n = snprintf(q.text, sizeof(q.text), "%s%s", s->dir, workdir);

        if ((size_t)n >= sizeof(q.text))
                return -ENAMETOOLONG;
        return send_request(s, &q, n + 1, NULL, 0);
}

void local_exec_reply(struct local_sandbox *s, const struct agent_reply *reply) {
        struct local_exec *e = find_exec(s, reply->job);

        if (!e)
                return; /* cancelled meanwhile */
        switch ((enum agent_reply_type)reply->type) {
        case AGENT_STARTED:
                exec_started(&e->exec);
                break;
        case AGENT_POLLED:
                exec_polled(&e->exec, reply->code);
                break;
        case AGENT_ENDED:
                result_set(&e->result, RESULT_OK, "%s", reply->text);
                exec_on_end(e, reply->code);
                break;
        case AGENT_NO_CWD:
                exec_no_cwd(&e->result, reply->text);
                exec_on_end(e, EXEC_NO_CWD);
                break;
        case AGENT_FAILED:
                result_set(&e->result, RESULT_FAILED, "%s", reply->text);
                exec_on_end(e, 0);
                break;
        case AGENT_HELLO:
        case AGENT_CLEANED:
                break; /* of no exec */
        }
}

void local_close_left_open(struct local_sandbox *s) {
        struct stream_end *end, *tmp;

        list_for_each_safe (end, tmp, &s->left_open, link)
                end_close(end);
}
