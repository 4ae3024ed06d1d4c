/* SPDX-License-Identifier: MIT */
#include "pool/backend/local.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/backend/local-protocol.h"
#include "pool/util/cleanup.h"
#include "pool/util/io.h"
#include "pool/util/log.h"

#define CREATE_TIMEOUT_MS 30000
#define DESTROY_TIMEOUT_MS 5000 /* then bwrap is killed, and its namespace with it */
#define OUTPUT_GRACE_MS 100     /* for output still on its way when the shell has ended */
#define READ_SIZE (64 << 10)
#define READS_AT_ONCE 16        /* then others have their turn; together not less than the largest pipe holds */
#define LEFT_OPEN_MAX 64        /* streams of ended jobs that background processes still hold */

struct local {
        struct backend backend;
        uv_loop_t *loop;
        struct local_options options;
        char *base, *dir;
        char *agent; /* path of the program */
        unsigned last_number;
        struct sandbox *trial; /* of start */
        struct result trial_result;
};

enum { N_STREAMS = 2 };

/* The reading end of a job's stdout or stderr. */
struct stream_end {
        uv_poll_t poll;
        int fd;
        struct local_exec *exec;     /* NULL once the job ended: then bytes are read and dropped */
        struct local_sandbox *owner; /* while left open */
        struct list link;            /* in the sandbox's left_open */
        enum stream stream;
};

struct local_exec {
        struct exec exec;
        struct list link; /* in the sandbox's execs */
        uint32_t number;
        struct stream_end *ends[N_STREAMS]; /* NULL after the end of the stream */
        uv_timer_t grace;
        bool finished; /* the agent has said how it ended */
        struct result result;
        int code;
};

struct local_sandbox {
        struct sandbox sandbox;
        uv_process_t process;
        uv_poll_t socket;
        uv_poll_t errors; /* bwrap's stderr, until the agent says hello */
        uv_timer_t timer; /* of create, later of destroy */
        int socket_fd, errors_fd;
        bool running;     /* the process has not been reaped */
        unsigned n_handles; /* libuv still holds */
        char error_text[384];
        size_t error_len;
        unsigned last_exec;
        struct list execs;
        struct list left_open;
        unsigned n_left_open;
        char dir[]; /* of isolate=none, or "" */
};

static struct local_sandbox *local_sandbox(struct sandbox *s) {
        return container_of(s, struct local_sandbox, sandbox);
}

static struct local *sandbox_local(struct local_sandbox *s) {
        return container_of(s->sandbox.backend, struct local, backend);
}

/* streams */

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

/* Read what is there. False at the end of the stream. */
static bool end_read(struct stream_end *end, int most) {
        static char chunk[READ_SIZE];

        for (int i = 0; i < most; i++) {
                ssize_t n = read(end->fd, chunk, sizeof(chunk));

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
        r = uv_poll_init(l->loop, &end->poll, fd); /* makes it non-blocking */
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

/* A background process may hold the stream: it must neither block nor get SIGPIPE, so someone goes on reading. */
static void end_leave_open(struct local_sandbox *s, struct stream_end *end) {
        end->exec = NULL;
        end->owner = s;
        list_add_tail(&s->left_open, &end->link);
        if (++s->n_left_open > LEFT_OPEN_MAX)
                end_close(list_first(&s->left_open, struct stream_end, link));
}

/* execs */

static void on_exec_closed(uv_handle_t *h) {
        struct local_exec *e = h->data;

        free(e);
}

/* Let go of the exec; its streams are drained as long as something writes to them. */
static void exec_drop(struct local_exec *e) {
        struct local_sandbox *s = local_sandbox(e->exec.sandbox);

        list_remove(&e->link);
        for (int i = 0; i < N_STREAMS; i++)
                if (e->ends[i])
                        end_leave_open(s, TAKE_PTR(e->ends[i]));
        uv_close((uv_handle_t *)&e->grace, on_exec_closed);
}

static void exec_finish(struct local_exec *e) {
        exec_ended(&e->exec, &e->result, e->code);
        exec_drop(e);
}

static void exec_maybe_finish(struct local_exec *e) {
        if (e->finished && !e->ends[0] && !e->ends[1])
                exec_finish(e);
}

static void on_grace_over(uv_timer_t *timer) {
        exec_finish(timer->data);
}

/* The agent has said how it ended: take what output is there, and wait a moment for the rest. */
static void exec_on_end(struct local_exec *e, enum result_code code, const char *text, int exit_code) {
        result_set(&e->result, code, "%s", text);
        e->code = exit_code;
        e->finished = true;
        for (int i = 0; i < N_STREAMS; i++)
                if (e->ends[i] && !end_read(e->ends[i], READS_AT_ONCE))
                        end_close(TAKE_PTR(e->ends[i]));
        if (e->ends[0] || e->ends[1])
                uv_timer_start(&e->grace, on_grace_over, OUTPUT_GRACE_MS, 0);
        else
                exec_finish(e);
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

/* The strings of an exec request, as a file: there is no other way for 16 MiB in one message. */
static int make_strings(struct local_sandbox *s, const struct exec_spec *spec, uint32_t *n_env, int *out) {
        struct buf head = BUF_INIT(4 << 20);
        _cleanup_(cleanup_close) int fd = -1;
        char chunk[READ_SIZE];
        uint64_t at, done = 0;
        ssize_t n = 0;
        int r;

        r = append_string(&head, "", spec->shell ? spec->shell : "");
        if (r == 0)
                r = append_string(&head, s->dir, spec->workdir);
        if (r == 0)
                r = append_string(&head, "", spec->cwd);
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

static int local_exec(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out) {
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
        uv_timer_init(l->loop, &e->grace);
        e->grace.data = e;

        r = make_strings(s, spec, &q.n_env, &strings);
        if (r == 0) {
                input = spec->input ? blob_open(spec->input) : open("/dev/null", O_RDONLY | O_CLOEXEC);
                r = input < 0 ? -errno : 0;
        }
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
                uv_close((uv_handle_t *)&e->grace, on_exec_closed);
                return r;
        }
        list_add_tail(&s->execs, &e->link);
        *out = &e->exec;
        return 0;
}

static void local_exec_signal(struct exec *exec, int signo) {
        struct local_exec *e = container_of(exec, struct local_exec, exec);
        struct agent_request q = { .type = AGENT_SIGNAL, .job = e->number, .signo = signo };
        struct local_sandbox *s = local_sandbox(exec->sandbox);
        int r = send_request(s, &q, 0, NULL, 0);

        if (r < 0)
                log_warning("environment=%s: signal %d not sent: %s", s->sandbox.id, signo, strerror(-r));
}

static void local_exec_cancel(struct exec *exec) {
        exec_drop(container_of(exec, struct local_exec, exec));
}

static int local_clean(struct sandbox *sandbox, const char *workdir) {
        struct local_sandbox *s = local_sandbox(sandbox);
        struct agent_request q = { .type = AGENT_CLEAN };
        int n = snprintf(q.text, sizeof(q.text), "%s%s", s->dir, workdir);

        if ((size_t)n >= sizeof(q.text))
                return -ENAMETOOLONG;
        return send_request(s, &q, n + 1, NULL, 0);
}

/* a sandbox's life */

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

/* The end: the process is gone, so everything in its namespace is. */
static void sandbox_finish(struct local_sandbox *s) {
        struct result ok = {};
        struct stream_end *end, *tmp;

        list_for_each_safe (end, tmp, &s->left_open, link)
                end_close(end);
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

/* It cannot be used any more, by its own doing: say so, once. */
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
        case SANDBOX_DEAD:
        case SANDBOX_ENDING:
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

static void on_destroy_timeout(uv_timer_t *timer) {
        struct local_sandbox *s = timer->data;

        log_warning("environment=%s: does not end by itself, killing it", s->sandbox.id);
        uv_process_kill(&s->process, SIGKILL);
}

/* Nothing but its absence can fail here, so destroying is never answered from inside the call. */
static void on_destroy_absent(uv_timer_t *timer) {
        sandbox_finish(timer->data);
}

static void local_destroy(struct sandbox *sandbox) {
        struct local_sandbox *s = local_sandbox(sandbox);

        uv_poll_stop(&s->socket);
        shutdown(s->socket_fd, SHUT_RDWR); /* the agent kills everything and ends */
        if (s->running)
                uv_timer_start(&s->timer, on_destroy_timeout, DESTROY_TIMEOUT_MS, 0);
        else
                uv_timer_start(&s->timer, on_destroy_absent, 0, 0);
}

static void on_reply(struct local_sandbox *s, const struct agent_reply *reply) {
        struct local_exec *e;
        struct result r = {};

        switch (reply->type) {
        case AGENT_HELLO:
                uv_timer_stop(&s->timer);
                close_errors(s);
                if (s->sandbox.state == SANDBOX_CREATING)
                        sandbox_created(&s->sandbox, &r);
                break;
        case AGENT_STARTED:
                if ((e = find_exec(s, reply->job)))
                        exec_started(&e->exec);
                break;
        case AGENT_ENDED:
                if ((e = find_exec(s, reply->job)))
                        exec_on_end(e, RESULT_OK, reply->text, reply->code);
                break;
        case AGENT_FAILED:
                if ((e = find_exec(s, reply->job)))
                        exec_on_end(e, RESULT_FAILED, reply->text, 0);
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

        /* Until nothing is left, or an answer led to its destruction. */
        while (s->sandbox.state != SANDBOX_ENDING) {
                ssize_t n = recv(s->socket_fd, &reply, sizeof(reply), MSG_DONTWAIT);

                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n != sizeof(reply)) {
                        /* Its exit says more than a closed socket; it follows at once. */
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

/* the command line */

struct arguments {
        const char *list[160];
        size_t n;
};

static void add(struct arguments *a, const char *argument) {
        assert(a->n + 1 < sizeof(a->list) / sizeof(a->list[0]));
        a->list[a->n++] = argument;
        a->list[a->n] = NULL;
}

#define ADD(a, ...)                                                                            \
        do {                                                                                   \
                const char *const _more[] = { __VA_ARGS__ };                                   \
                for (size_t _i = 0; _i < sizeof(_more) / sizeof(_more[0]); _i++)               \
                        add((a), _more[_i]);                                                   \
        } while (0)

#define NEED_BWRAP "; install bubblewrap (apt-get install bubblewrap), or use -o isolate=none to do without"
#define INNER_AGENT "/run/modalpool/agent"
#define INNER_RUN "/run/modalpool/jobs"

/*
 * The host's programs and the parts of /etc that they need, read-only; all else is a fresh tmpfs.
 * User 0 of its own user namespace may do there what root may with files and processes of its own.
 */
static void bwrap_arguments(struct local *l, struct arguments *a, char *size, size_t len) {
        static const char *const etc[] = {
                "alternatives", "ca-certificates", "debian_version", "group", "hosts", "inputrc", "ld.so.cache",
                "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "os-release", "passwd",
                "pki", "profile", "profile.d", "protocols", "python3", "services", "ssl", "terminfo", "timezone",
        };
        static const char *const capabilities[] = {
                "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
                "CAP_SETUID", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
        };
        static const char *const links[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
        static char etc_paths[sizeof(etc) / sizeof(etc[0])][40], link_targets[6][16], link_paths[6][16];

        snprintf(size, len, "%" PRIu64, l->options.size);
        ADD(a, "bwrap", "--unshare-user", "--uid", "0", "--gid", "0", "--unshare-pid", "--unshare-ipc",
            "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox", "--die-with-parent", "--as-pid-1");
        if (!l->options.network)
                ADD(a, "--unshare-net");
        for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
                ADD(a, "--cap-add", capabilities[i]);
        ADD(a, "--size", size, "--tmpfs", "/", "--ro-bind", "/usr", "/usr", "--ro-bind-try", "/opt", "/opt");
        for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
                snprintf(link_paths[i], sizeof(link_paths[i]), "/%s", links[i]);
                snprintf(link_targets[i], sizeof(link_targets[i]), "usr/%s", links[i]);
                if (access(link_paths[i], F_OK) == 0)
                        ADD(a, "--symlink", link_targets[i], link_paths[i]);
        }
        for (size_t i = 0; i < sizeof(etc) / sizeof(etc[0]); i++) {
                snprintf(etc_paths[i], sizeof(etc_paths[i]), "/etc/%s", etc[i]);
                ADD(a, "--ro-bind-try", etc_paths[i], etc_paths[i]);
        }
        if (l->options.network)
                ADD(a, "--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf");
        ADD(a, "--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--dir", "/tmp", "--perms", "0700", "--dir",
            "/root", "--dir", "/var", "--perms", "1777", "--dir", "/var/tmp", "--dir", l->base, "--dir", INNER_RUN,
            "--ro-bind", l->agent, INNER_AGENT, "--chdir", "/", INNER_AGENT, INNER_RUN);
}

/* What jobs see; nothing of the daemon's own environment goes in. */
static void inner_environment(struct local *l, struct local_sandbox *s, char text[3][4600], const char *env[8]) {
        snprintf(text[0], sizeof(text[0]), "HOME=%s%s", s->dir, *s->dir ? "/home" : "/root");
        snprintf(text[1], sizeof(text[1]), "TMPDIR=%s/tmp", s->dir);
        env[0] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        env[1] = "LANG=C.UTF-8";
        env[2] = text[0];
        env[3] = text[1];
        env[4] = "USER=root";
        env[5] = "LOGNAME=root";
        /* Under isolate=none, nobody is root who was not before. */
        env[l->options.isolate ? 6 : 4] = NULL;
}

static int make_dir(struct local_sandbox *s) {
        static const char *const inner[] = { "home", "tmp", "run" };
        char path[4600];
        int r = 0;

        for (size_t i = 0; r == 0 && i < sizeof(inner) / sizeof(inner[0]); i++) {
                snprintf(path, sizeof(path), "%s/%s", s->dir, inner[i]);
                r = make_path(AT_FDCWD, path, 0700);
        }
        return r;
}

static int spawn_agent(struct local *l, struct local_sandbox *s, int socket, int errors, const char **program) {
        uv_stdio_container_t stdio[] = {
                { .flags = UV_IGNORE },
                { .flags = UV_IGNORE },
                { .flags = UV_INHERIT_FD, .data.fd = errors },
                { .flags = UV_INHERIT_FD, .data.fd = socket },
        };
        char size[32], env_text[3][4600], run[4600];
        const char *env[8];
        struct arguments a = {};

        inner_environment(l, s, env_text, env);
        if (l->options.isolate) {
                bwrap_arguments(l, &a, size, sizeof(size));
        } else {
                snprintf(run, sizeof(run), "%s/run", s->dir);
                ADD(&a, l->agent, run, s->dir);
        }
        *program = a.list[0];
        return uv_spawn(l->loop, &s->process,
                        &(uv_process_options_t){
                                .exit_cb = on_process_exit,
                                .file = a.list[0],
                                .args = (char **)a.list,
                                .env = (char **)env,
                                .cwd = "/",
                                .flags = UV_PROCESS_DETACHED, /* a terminal's ^C is the daemon's, not theirs */
                                .stdio_count = 4,
                                .stdio = stdio,
                        });
}

static int local_create(struct backend *b, struct sandbox **out) {
        struct local *l = container_of(b, struct local, backend);
        _cleanup_(cleanup_close) int inner = -1, inner_errors = -1;
        struct local_sandbox *s;
        const char *program;
        int fds[2], r;

        s = calloc(1, sizeof(*s) + (l->options.isolate ? 1 : strlen(l->dir) + 16));
        if (!s)
                return -ENOMEM;
        l->last_number++;
        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "local-%u", l->last_number);
        list_init(&s->execs);
        list_init(&s->left_open);
        if (!l->options.isolate) {
                sprintf(s->dir, "%s/%u", l->dir, l->last_number);
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

        r = spawn_agent(l, s, inner, inner_errors, &program);
        s->process.data = s;
        s->running = r == 0;
        if (r < 0) {
                /* As libuv has the handle now, it goes the way of one that broke. */
                snprintf(s->error_text, sizeof(s->error_text), "%s: %s%s", program, strerror(-r),
                         l->options.isolate && r == -ENOENT ? NEED_BWRAP : "");
                s->error_len = strlen(s->error_text);
        }
        uv_poll_init(l->loop, &s->socket, s->socket_fd);
        uv_poll_init(l->loop, &s->errors, s->errors_fd);
        uv_timer_init(l->loop, &s->timer);
        s->n_handles = 4;
        s->socket.data = s->errors.data = s->timer.data = s;
        uv_poll_start(&s->socket, UV_READABLE, on_socket);
        uv_poll_start(&s->errors, UV_READABLE, on_errors);
        uv_timer_start(&s->timer, on_create_timeout, s->running ? CREATE_TIMEOUT_MS : 0, 0);
        *out = &s->sandbox;
        return 0;
fail:
        free(s);
        return r;
}

/* the backend */

/* To start is to make one sandbox and end it again: nothing less tells whether it can be done here. */
static void trial_created(void *owner, const struct result *r) {
        struct local *l = owner;

        l->trial_result = *r;
        sandbox_destroy(l->trial);
}

static void trial_died(void *owner, const struct result *why) {
}

static void trial_cleaned(void *owner, const struct result *r) {
}

static void trial_destroyed(void *owner, const struct result *r) {
        struct local *l = owner;

        backend_ready(&l->backend, &l->trial_result);
}

static const struct sandbox_events trial_events = {
        .created = trial_created,
        .died = trial_died,
        .cleaned = trial_cleaned,
        .destroyed = trial_destroyed,
};

static int local_start(struct backend *b) {
        struct local *l = container_of(b, struct local, backend);

        return sandbox_create(b, &trial_events, l, &l->trial);
}

static void local_free(struct backend *b) {
        struct local *l = container_of(b, struct local, backend);

        free(l->agent);
        free(l->base);
        free(l->dir);
        free(l);
}

static const struct backend_ops local_ops = {
        .name = "local",
        .start = local_start,
        .free = local_free,
        .create = local_create,
        .destroy = local_destroy,
        .clean = local_clean,
        .exec = local_exec,
        .exec_signal = local_exec_signal,
        .exec_cancel = local_exec_cancel,
};

/* In the build tree it lies beside us, else where it was installed. */
static char *find_agent(void) {
        char self[4096], *path = NULL;
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

        if (n > 0) {
                self[n] = '\0';
                *strrchr(self, '/') = '\0';
                if (asprintf(&path, "%s/../pool/modalpool-agent", self) < 0)
                        return NULL;
                if (access(path, X_OK) == 0)
                        return path;
                free(path);
        }
        return strdup(MODALPOOL_LIBEXECDIR "/modalpool-agent");
}

int local_new(struct backend **out, uv_loop_t *loop, const struct local_options *options) {
        struct local *l = calloc(1, sizeof(*l));

        if (!l)
                return -ENOMEM;
        l->backend.ops = &local_ops;
        l->loop = loop;
        l->options = *options;
        l->agent = find_agent();
        l->base = strdup(options->base);
        l->dir = strdup(options->dir);
        if (!l->agent || !l->base || !l->dir) {
                local_free(&l->backend);
                return -ENOMEM;
        }
        *out = &l->backend;
        return 0;
}
