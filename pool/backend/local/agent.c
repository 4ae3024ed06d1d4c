/* SPDX-License-Identifier: MIT */

/*
 * modalpool-agent RUNDIR TMPDIR SHELL [ENVDIR]: the first process of a local environment.
 *
 * It starts jobs, each below a supervisor of its own (job.h), reaps processes,
 * and cleans up after a lease. Inside bubblewrap it is process 1 of its own PID
 * namespace, so all processes end with it. With isolate=none it is a subreaper,
 * which inherits the orphans of its jobs, and it removes ENVDIR when it ends.
 * RUNDIR holds scripts that are too long for an argument. TMPDIR is the /tmp of
 * the environment. Unless SHELL is empty, the agent refuses to start without it.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool/backend/local/job.h"
#include "pool/backend/local/processes.h"
#include "pool/backend/local/protocol.h"
#include "pool/util/buf.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"

#define ROOM (64 << 10)                       /* bytes that a lease must be able to write */
#define CLEAN_WAIT_US (10 * USEC_PER_SEC) /* for all processes to end, between leases … */
#define END_WAIT_US (3 * USEC_PER_SEC)    /* … and at the end: after 5 s the daemon kills the agent */

extern char **environ;

static const char *run_dir, *tmp_dir;
static mode_t tmp_mode; /* as it was at first */
static const char *default_shell;

static void reply(enum agent_reply_type type, uint32_t job, int code, const char *text) {
        struct agent_reply r = { .type = type, .job = job, .code = code };

        snprintf(r.text, sizeof(r.text), "%.*s", (int)sizeof(r.text) - 1, text);
        /* The daemon always reads. If it is gone, the main loop notices. */
        (void)send(AGENT_FD, &r, sizeof(r), MSG_NOSIGNAL);
}

/* the end of everything */

static bool is_child(const void *data, pid_t pid, pid_t parent) {
        return parent == getpid();
}

static int kill_all(struct pids *found) {
        int r;

        if (getpid() == 1)
                kill(-1, SIGKILL); /* of its PID namespace, all at once */
        r = pids_find(found, is_child, NULL);
        if (r == 0)
                pids_signal(found, SIGKILL);
        return r;
}

/*
 * Kill and reap every other process of the environment. 0 or -errno; on -ETIMEDOUT @left has those that did not end.
 * Without a PID namespace these can be processes of another user, started by a setuid program.
 */
static int kill_everything(struct pids *left, int64_t wait_us) {
        const struct timespec moment = { .tv_nsec = 10000000 };
        int64_t end_us = clock_now() + wait_us;
        sigset_t child;
        pid_t pid;
        int r;

        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        for (;;) {
                r = kill_all(left);
                while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
                        ;
                if (pid < 0 && errno == ECHILD)
                        return 0;
                if (clock_now() >= end_us)
                        return r < 0 ? r : -ETIMEDOUT;
                sigtimedwait(&child, NULL, &moment);
        }
}

/* requests */

struct strings {
        const char *next, *end;
};

/* The next string, or NULL if there is no complete one. */
static const char *take_string(struct strings *s) {
        const char *string = s->next;
        const char *end = memchr(string, '\0', s->end - string);

        if (!end)
                return NULL;
        s->next = end + 1;
        return string;
}

static bool has_name(const char *const *env, const char *entry) {
        size_t name = strcspn(entry, "=") + 1;

        while (*env && strncmp(*env, entry, name))
                env++;
        return *env;
}

/* @n strings, and those of the agent's own environment that they do not replace. */
static const char **make_environment(struct strings *s, uint32_t n) {
        size_t own = 0, used = 0;
        const char **env;

        while (environ[own])
                own++;
        env = calloc(n + own + 1, sizeof(*env));
        if (!env)
                return NULL;
        while (used < n && (env[used] = take_string(s)))
                used++;
        for (size_t i = 0; i < own; i++)
                if (!has_name(env, environ[i]))
                        env[used++] = environ[i];
        return env;
}

static int prepare_workdir(const char *workdir) {
        int r = remove_tree(AT_FDCWD, workdir);

        return r < 0 ? r : make_path(AT_FDCWD, workdir, 0755);
}

#define NO_CWD 1

/* 0, or -errno with what failed in @what, or NO_CWD with the cwd in @what. */
static int start_job(const struct agent_request *q, struct strings s, const int fds[3], char what[AGENT_TEXT_MAX]) {
        const char *shell, *workdir, *cwd, *command, *step = NULL;
        _cleanup_(cleanup_free) const char **env = NULL;
        _cleanup_(cleanup_close) int cwd_fd = -1;
        int r;

        strcpy(what, "reading the request");
        shell = take_string(&s);
        workdir = shell ? take_string(&s) : NULL;
        cwd = workdir ? take_string(&s) : NULL;
        env = cwd ? make_environment(&s, q->n_env) : NULL;
        command = env ? take_string(&s) : NULL;
        if (!command)
                return -EPROTO;

        if (q->fresh) {
                strcpy(what, "making the workdir");
                r = prepare_workdir(workdir);
                if (r < 0)
                        return r;
        } else {
                (void)make_path(AT_FDCWD, workdir, 0755); /* if that does not help, the cwd does not exist */
        }
        cwd_fd = open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (cwd_fd < 0) {
                snprintf(what, AGENT_TEXT_MAX, "%s", cwd);
                return NO_CWD;
        }

        shell = *shell ? shell : default_shell;
        snprintf(what, AGENT_TEXT_MAX, "starting the shell %s", shell);
        r = job_start(&(struct job_spec){ .number = q->job,
                                          .shell = shell,
                                          .command = command,
                                          .run_dir = run_dir,
                                          .cwd = cwd_fd,
                                          .fds = { fds[0], fds[1], fds[2] },
                                          .env = env },
                      &step);
        if (step)
                strcpy(what, step);
        return r;
}

static void do_exec(const struct agent_request *q, const int fds[4]) {
        char what[AGENT_TEXT_MAX] = "reading the request", text[AGENT_TEXT_MAX + 64];
        struct stat st;
        char *map = MAP_FAILED;
        int r;

        if (fstat(fds[0], &st) == 0 && st.st_size > 0)
                map = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fds[0], 0);
        if (map == MAP_FAILED) {
                r = -EIO;
        } else {
                r = start_job(q, (struct strings){ map, map + st.st_size }, fds + 1, what);
                munmap(map, st.st_size);
        }
        if (r == 0) {
                reply(AGENT_STARTED, q->job, 0, "");
        } else if (r == NO_CWD) {
                reply(AGENT_STARTED, q->job, 0, "");
                reply(AGENT_NO_CWD, q->job, 0, what);
        } else {
                snprintf(text, sizeof(text), "%s: %s", what, strerror(-r));
                reply(AGENT_FAILED, q->job, 0, text);
        }
}

static void reap(void) {
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                jobs_reaped(pid, status);
}

/* Ends are reported first. */
static void do_poll(const struct agent_request *q) {
        reap();
        reply(AGENT_POLLED, q->job, job_runs(q->job), "");
}

/* Make it again, because a job may have replaced it. */
static int empty_tmp(void) {
        int r = remove_tree(AT_FDCWD, tmp_dir);

        if (r == 0 && mkdir(tmp_dir, 0700) < 0)
                r = -errno;
        return r == 0 && chmod(tmp_dir, tmp_mode) < 0 ? -errno : r;
}

static int try_to_write(const char *dir) {
        static const char bytes[ROOM];
        _cleanup_(cleanup_close) int fd = -1;
        char path[AGENT_TEXT_MAX + 16];
        int r;

        snprintf(path, sizeof(path), "%s/.modalpool", dir);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = write_at(fd, bytes, sizeof(bytes), 0);
        return unlink(path) < 0 && r == 0 ? -errno : r;
}

/* 0, or -errno with what failed in @what. */
static int clean(const char *workdir, const char **what) {
        struct stat st;
        int r;

        *what = "removing the workdir";
        r = remove_tree(AT_FDCWD, workdir);
        if (r < 0)
                return r;
        *what = "emptying the directory for temporary files";
        r = empty_tmp();
        if (r < 0)
                return r;
        *what = "writing a temporary file";
        r = try_to_write(tmp_dir);
        if (r < 0)
                return r;
        *what = "writing a file in the workdir";
        r = make_path(AT_FDCWD, workdir, 0755);
        if (r == 0)
                r = try_to_write(workdir);
        if (r < 0)
                return r;
        *what = "removing the workdir again";
        r = remove_tree(AT_FDCWD, workdir);
        if (r < 0)
                return r;
        return lstat(workdir, &st) == 0 ? -EEXIST : errno == ENOENT ? 0 : -errno;
}

static void do_clean(const struct agent_request *q) {
        struct pids left = PIDS_INIT;
        struct buf who = BUF_INIT(160);
        const char *what = "";
        char text[256] = "";
        int r;

        r = kill_everything(&left, CLEAN_WAIT_US);
        jobs_forget();
        if (r == -ETIMEDOUT) {
                pids_describe(&left, &who);
                snprintf(text, sizeof(text), "processes that do not end: %s", buf_text(&who));
        } else if (r < 0) {
                snprintf(text, sizeof(text), "finding processes: %s", strerror(-r));
        } else if ((r = clean(q->text, &what)) < 0) {
                snprintf(text, sizeof(text), "%s: %s", what, strerror(-r));
        }
        buf_deinit(&who);
        pids_deinit(&left);
        reply(AGENT_CLEANED, 0, 0, text);
}

/* False when the daemon is gone. */
static bool serve_request(void) {
        struct agent_request q = {};
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct iovec iov = { &q, sizeof(q) - 1 };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        int fds[4] = { -1, -1, -1, -1 };
        struct cmsghdr *c;
        ssize_t n;

        n = recvmsg(AGENT_FD, &m, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
                return true;
        if (n <= 0)
                return false;
        c = CMSG_FIRSTHDR(&m);
        if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(fds)))
                memcpy(fds, CMSG_DATA(c), sizeof(fds));
        switch (q.type) {
        case AGENT_EXEC:
                do_exec(&q, fds);
                break;
        case AGENT_SIGNAL:
                job_signal(q.job, q.signo);
                break;
        case AGENT_KILL:
                job_kill(q.job, q.grace_ms);
                break;
        case AGENT_POLL:
                do_poll(&q);
                break;
        case AGENT_CLEAN:
                do_clean(&q);
                break;
        }
        for (int i = 0; i < 4; i++)
                close_fd(fds[i]);
        return true;
}

/* As posix_spawnp() finds it. */
static bool is_there(const char *program) {
        char path[AGENT_TEXT_MAX];

        if (strchr(program, '/'))
                return access(program, X_OK) == 0;
        for (const char *dir = getenv("PATH") ?: ""; *dir;) {
                size_t len = strcspn(dir, ":");

                snprintf(path, sizeof(path), "%.*s/%s", (int)len, dir, program);
                if (access(path, X_OK) == 0)
                        return true;
                dir += len + (dir[len] == ':');
        }
        return false;
}

/* What the events of the loop name, besides jobs. */
static char from_daemon, from_children;

static int listen_to(int epoll, int fd, void *what) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };

        return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* One event at a time, because it may end the job of the next one. */
static void serve(int epoll, int signals) {
        struct signalfd_siginfo info;
        struct epoll_event event;

        for (;;) {
                int n = epoll_wait(epoll, &event, 1, jobs_tick());

                if (n < 0 && errno != EINTR)
                        return;
                if (n <= 0)
                        continue;
                if (event.data.ptr == &from_daemon) {
                        if (!serve_request())
                                return;
                } else if (event.data.ptr == &from_children) {
                        while (read(signals, &info, sizeof(info)) > 0)
                                ;
                        reap();
                } else {
                        job_heard(event.data.ptr);
                }
        }
}

int main(int argc, char **argv) {
        struct pids left = PIDS_INIT;
        struct stat st;
        int signals, epoll;
        sigset_t mask;

        if (argc < 4) {
                fprintf(stderr, "modalpool-agent is started by modalpool, not by hand\n");
                return 2;
        }
        if (*argv[3] && !is_there(argv[3])) {
                fprintf(stderr, "option shell: there is no program %s", argv[3]);
                return 1;
        }
        run_dir = argv[1];
        tmp_dir = argv[2];
        if (lstat(tmp_dir, &st) < 0) {
                perror(tmp_dir);
                return 1;
        }
        tmp_mode = st.st_mode & 07777;
        umask(022); /* the daemon's own umask is stricter, and not meant for jobs */
        default_shell = access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh";

        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        signal(SIGPIPE, SIG_IGN);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        fcntl(AGENT_FD, F_SETFD, FD_CLOEXEC);
        signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        epoll = epoll_create1(EPOLL_CLOEXEC);
        if (signals < 0 || epoll < 0 || listen_to(epoll, AGENT_FD, &from_daemon) < 0 ||
            listen_to(epoll, signals, &from_children) < 0) {
                perror("modalpool-agent: epoll");
                return 1;
        }
        jobs_init(epoll, reply);

        reply(AGENT_HELLO, 0, 0, "");
        serve(epoll, signals);

        (void)kill_everything(&left, END_WAIT_US);
        pids_deinit(&left);
        if (argc > 4)
                remove_tree(AT_FDCWD, argv[4]);
        return 0;
}
