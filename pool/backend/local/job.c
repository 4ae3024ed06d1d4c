/* SPDX-License-Identifier: MIT */
#include "pool/backend/local/job.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool/backend/local/processes.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"
#include "pool/util/list.h"
#include "pool/util/text.h"

#define ARGUMENT_MAX 120000                   /* bytes; Linux takes 128 KiB in one argument (MAX_ARG_STRLEN) */
#define START_WAIT_MS 10000                   /* for a supervisor to start the shell */
#define ROUND_US (10 * USEC_PER_MSEC)         /* between checks for processes that a KILL has left … */
#define GIVE_UP_US (5 * USEC_PER_SEC)         /* … until they are reported instead */
#define FORK_ROUNDS 100                       /* checks without a pause, for processes forked during the last */

struct job {
        struct list link;
        uint32_t number;
        const char *run_dir;
        pid_t supervisor; /* 0: it has ended */
        pid_t shell;      /* 0: it has ended … */
        int status;       /* … like this */
        int report;       /* the reading end of the supervisor's pipe; -1: closed */
        bool script;      /* its command is in a file */
        bool killed, told;
        bool empty;       /* nothing is left below it */
        int64_t next_us;    /* of a killed one: when to check again for processes to KILL */
        int64_t give_up_us; /* … and when to report those that are left */
};

static struct list jobs = LIST_INIT(jobs);
static int loop;
static void (*say)(enum agent_reply_type type, uint32_t job, int code, const char *text);

void jobs_init(int epoll, void (*reply)(enum agent_reply_type type, uint32_t job, int code, const char *text)) {
        loop = epoll;
        say = reply;
}

static void script_path(const struct job *j, char *path, size_t len) {
        snprintf(path, len, "%s/job-%" PRIu32, j->run_dir, j->number);
}

static void remove_script(struct job *j) {
        char path[AGENT_TEXT_MAX];

        if (!j->script)
                return;
        script_path(j, path, sizeof(path));
        unlink(path);
        j->script = false;
}

static void close_report(struct job *j) {
        if (j->report < 0)
                return;
        epoll_ctl(loop, EPOLL_CTL_DEL, j->report, NULL); /* a supervisor that was just forked still has it open */
        close_fd(TAKE_FD(j->report));
}

static void job_free(struct job *j) {
        remove_script(j);
        close_report(j);
        list_remove(&j->link);
        free(j);
}

static struct job *find(uint32_t number) {
        struct job *j;

        list_for_each (j, &jobs, link)
                if (j->number == number && !j->told)
                        return j;
        return NULL;
}

/* its processes */

static bool is_supervisor(pid_t pid) {
        struct job *j;

        list_for_each (j, &jobs, link)
                if (j->supervisor == pid)
                        return true;
        return false;
}

static bool is_top(const void *data, pid_t pid, pid_t parent) {
        const struct job *j = data;

        if (j->supervisor)
                return parent == j->supervisor;
        return parent == getpid() && !is_supervisor(pid);
}

/* Stop all first: else a shell runs its next command when the process that it waits for is killed. */
static void kill_found(const struct pids *found) {
        pids_signal(found, SIGSTOP);
        pids_signal(found, SIGKILL);
}

static bool brought_new(const struct pids *now, const struct pids *before) {
        for (size_t i = 0; i < now->n; i++)
                if (!pids_have(before, now->pid[i]))
                        return true;
        return false;
}

/* Send KILL to all processes, again as long as new ones appear. True if it is certain that none is left. */
static bool kill_round(const struct job *j, struct pids *left) {
        struct pids before = PIDS_INIT, swap;
        int r = 0;

        for (int i = 0; i < FORK_ROUNDS; i++) {
                swap = before, before = *left, *left = swap;
                r = pids_find(left, is_top, j);
                if (r < 0 || !brought_new(left, &before))
                        break;
                kill_found(left);
        }
        pids_deinit(&before);
        return r == 0 && left->n == 0;
}

/* its end */

static void tell_end(struct job *j, const char *text) {
        int code = j->shell               ? 128 + SIGKILL
                   : WIFSIGNALED(j->status) ? 128 + WTERMSIG(j->status)
                                          : WEXITSTATUS(j->status);

        j->told = true;
        remove_script(j);
        say(AGENT_ENDED, j->number, code, text);
}

/* The job has changed: report its end or forget it, if it is time. */
static void settle(struct job *j) {
        if (!j->told && !j->shell && (!j->killed || j->empty))
                tell_end(j, "");
        if (j->told && !j->supervisor)
                job_free(j);
}

static void give_up(struct job *j, const struct pids *left) {
        char text[256 - 32] = "";
        struct buf who = BUF_INIT(sizeof(text));

        pids_describe(left, &who);
        snprintf(text, sizeof(text), "%s%s", who.len ? "not ended by KILL: " : "", buf_text(&who));
        buf_deinit(&who);
        tell_end(j, text);
        settle(j);
}

static void kill_again(struct job *j, int64_t now) {
        struct pids left = PIDS_INIT;

        j->next_us = now + ROUND_US;
        /* A supervisor without descendants ends by itself. */
        j->empty = kill_round(j, &left) && !j->supervisor;
        if (j->empty && !j->shell)
                settle(j);
        else if (now >= j->give_up_us)
                give_up(j, &left);
        pids_deinit(&left);
}

void job_kill(uint32_t number, uint32_t grace_ms) {
        struct job *j = find(number);
        struct pids found = PIDS_INIT;
        int64_t now = clock_now();

        if (!j || (j->killed && grace_ms > 0))
                return;
        j->killed = true;
        j->next_us = now + grace_ms * USEC_PER_MSEC;
        j->give_up_us = j->next_us + GIVE_UP_US;
        if (grace_ms == 0)
                kill_again(j, now);
        else if (pids_find(&found, is_top, j) == 0)
                pids_signal(&found, SIGTERM);
        pids_deinit(&found);
}

void job_signal(uint32_t number, int signo) {
        struct job *j = find(number);
        struct pids found = PIDS_INIT;

        if (j && pids_find(&found, is_top, j) == 0)
                pids_signal(&found, signo);
        pids_deinit(&found);
}

int jobs_tick(void) {
        int64_t now = clock_now(), next = USEC_NEVER;
        struct job *j, *tmp;

        list_for_each_safe (j, tmp, &jobs, link)
                if (j->killed && !j->told && j->next_us <= now)
                        kill_again(j, now);
        list_for_each (j, &jobs, link)
                if (j->killed && !j->told)
                        next = clock_earlier(next, j->next_us);
        return next == USEC_NEVER ? -1 : (int)((next - now) / USEC_PER_MSEC) + 1;
}

/* The supervisor has written the shell's status, or has ended without doing so. */
void job_heard(void *data) {
        struct job *j = data;
        int status;

        if (read(j->report, &status, sizeof(status)) == sizeof(status)) {
                j->status = status;
                j->shell = 0;
        } else if (j->shell && kill(j->shell, 0) < 0) {
                j->status = SIGKILL; /* both were killed before it could be said how the shell ended */
                j->shell = 0;
        }
        close_report(j);
        settle(j);
}

bool job_runs(uint32_t number) {
        struct job *j = find(number);
        struct pollfd p = { .events = POLLIN };

        if (!j)
                return false;
        p.fd = j->report;
        if (j->report >= 0 && poll(&p, 1, 0) == 1)
                job_heard(j);
        j = find(number);
        return j && j->shell && pid_runs(j->shell); /* if not, its supervisor is about to report it */
}

void jobs_reaped(pid_t pid, int status) {
        struct job *j, *tmp;

        list_for_each_safe (j, tmp, &jobs, link) {
                if (j->supervisor == pid) {
                        j->supervisor = 0;
                        j->empty = WIFEXITED(status);
                        if (j->report >= 0) {
                                job_heard(j);
                                continue;
                        }
                } else if (j->shell == pid) {
                        j->shell = 0; /* which the agent inherited, because the supervisor is gone */
                        j->status = status;
                } else {
                        continue;
                }
                settle(j);
        }
}

void jobs_forget(void) {
        struct job *j, *tmp;

        list_for_each_safe (j, tmp, &jobs, link)
                job_free(j);
}

/* the supervisor */

/* What the supervisor gets. All descriptors are close-on-exec. */
struct channels {
        int report; /* to the agent: the shell's number, or -errno; then, when it has ended, its status */
        int failed; /* to the agent: -errno where the shell could not be executed */
        int gate;   /* held by the supervisor until the agent has the number */
};

/* The shell, in a session of its own. */
static _Noreturn void be_shell(const struct job_spec *spec, const char *command, const struct channels *c) {
        const char *argv[] = { spec->shell, "-c", command, NULL };
        sigset_t none;
        char byte;
        int r;

        setsid();
        for (int signo = 1; signo < NSIG; signo++)
                signal(signo, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        r = fchdir(spec->cwd);
        for (int i = 0; r == 0 && i < 3; i++)
                r = dup2(spec->fds[i], i) < 0 ? -1 : 0;
        if (r == 0) {
                /* The command may kill its supervisor at once. */
                (void)!read(c->gate, &byte, 1);
                execvpe(spec->shell, (char *const *)argv, (char *const *)spec->env);
        }
        r = -errno;
        (void)!write(c->failed, &r, sizeof(r));
        _exit(127);
}

/* Ends when it has no more descendants. */
static _Noreturn void supervise(const struct job_spec *spec, const char *command, struct channels *c) {
        int said, status, gate[2];
        pid_t shell = -1, pid;

        prctl(PR_SET_CHILD_SUBREAPER, 1);
        said = pipe2(gate, O_CLOEXEC) < 0 ? -errno : 0;
        if (said == 0) {
                c->gate = gate[0];
                shell = fork();
                if (shell == 0) {
                        close(gate[1]);
                        be_shell(spec, command, c);
                }
                said = shell < 0 ? -errno : shell;
        }
        if (write(c->report, &said, sizeof(said)) != sizeof(said) || said < 0)
                _exit(1);
        /* Readers of the output wait until all writers have closed it. Closing also opens the gate. */
        dup2(c->report, 0);
        close_range(1, ~0U, 0);
        while ((pid = waitpid(-1, &status, 0)) > 0 || errno == EINTR)
                if (pid == shell && write(0, &status, sizeof(status)) != sizeof(status))
                        _exit(1);
        _exit(0);
}

/* the start */

/* A long command becomes a script that the shell sources. */
static int write_script(struct job *j, const char *command, struct buf *line) {
        _cleanup_(cleanup_close) int fd = -1;
        char path[AGENT_TEXT_MAX];
        int r;

        script_path(j, path, sizeof(path));
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        j->script = true;
        r = write_at(fd, command, strlen(command), 0);
        if (r == 0)
                r = buf_append(line, ". ", 2);
        return r < 0 ? r : text_quote(path, line);
}

static int read_int(int fd, int *out) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t n = poll(&p, 1, START_WAIT_MS) == 1 ? read(fd, out, sizeof(*out)) : -1;

        return n == 0 ? 0 : n == sizeof(*out) ? 1 : -EIO;
}

/* The shell's number, and that it was executed: then the other end of @failed is closed. 0 or -errno. */
static int wait_for_shell(struct job *j, int failed) {
        int said, r;

        if (read_int(j->report, &said) != 1)
                return -EIO;
        if (said < 0)
                return said;
        j->shell = said;
        r = read_int(failed, &said);
        return r == 1 ? said : r;
}

static int start(struct job *j, const struct job_spec *spec, const char *command) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = j };
        _cleanup_(cleanup_close) int heard_failed = -1;
        int report[2], failed[2], r;

        if (pipe2(report, O_CLOEXEC) < 0)
                return -errno;
        j->report = report[0];
        if (pipe2(failed, O_CLOEXEC) < 0) {
                r = -errno;
                close(report[1]);
                return r;
        }
        heard_failed = failed[0];
        j->supervisor = fork();
        if (j->supervisor == 0)
                supervise(spec, command, &(struct channels){ .report = report[1], .failed = failed[1] });
        r = j->supervisor < 0 ? -errno : 0;
        close(report[1]);
        close(failed[1]);
        if (r == 0)
                r = wait_for_shell(j, heard_failed);
        if (r == 0 && epoll_ctl(loop, EPOLL_CTL_ADD, j->report, &event) < 0)
                r = -errno;
        if (r < 0 && j->supervisor > 0)
                kill(j->supervisor, SIGKILL); /* what it started, if anything, goes with the clean-up */
        return r;
}

int job_start(const struct job_spec *spec, const char **what) {
        struct buf line = BUF_INIT(2 * AGENT_TEXT_MAX);
        const char *command = spec->command;
        struct job *j = calloc(1, sizeof(*j));
        int r = 0;

        if (!j)
                return -ENOMEM;
        list_init(&j->link);
        j->number = spec->number;
        j->run_dir = spec->run_dir;
        j->report = -1;
        if (strlen(command) > ARGUMENT_MAX) {
                *what = "writing the script";
                r = write_script(j, command, &line);
                command = buf_text(&line);
        }
        if (r == 0)
                r = start(j, spec, command);
        buf_deinit(&line);
        if (r < 0)
                job_free(j);
        else
                list_add_tail(&jobs, &j->link);
        return r;
}
