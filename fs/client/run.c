/* SPDX-License-Identifier: MIT */

/*
 * One loop over poll(2): signals, the standard streams, and the streams of the job.
 *
 *   submitted  it waits for an environment; a signal gives it up
 *   running    signals go to it, and its streams are passed on
 *   ended      its streams have ended: its exit code is ours
 *   left       by a signal, or since nobody reads its output: it is killed and removed
 */

#include "fs/client/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "fs/client/limits.h"
#include "fs/client/stream.h"
#include "fs/client/submit.h"
#include "fs/client/terminal.h"
#include "pool/util/cleanup.h"
#include "pool/util/text.h"

enum {
        EXIT_OURS = 125, /* as env(1), timeout(1) and docker: not the command's */
        EXIT_SIGNAL = 128,
};

struct run {
        struct arguments arguments;
        struct job_files files;
        struct terminal terminal;
        struct stream in, out, err;
        int signals;     /* signalfd(2) */
        int environment; /* readable once there is one; -1 when that is known */
        int status;      /* to leave with, before the job has ended; or -1 */
        bool interrupted;
};

static void complain(const char *text) {
        fprintf(stderr, "modalpool: %s\n", text);
}

/* signals */

/* What was ignored when we were started, as a shell does for what it runs in the background, stays ignored. */
static int catch_signals(struct run *r, struct result *why) {
        static const struct {
                int number;
                bool for_terminal;
        } signals[] = {
                { SIGINT }, { SIGTERM }, { SIGHUP }, { SIGQUIT }, { SIGUSR1 }, { SIGUSR2 },
                { SIGWINCH, true }, { SIGTSTP, true }, { SIGCONT, true },
        };
        struct sigaction action;
        sigset_t set;

        sigemptyset(&set);
        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
                if ((r->arguments.has_terminal || !signals[i].for_terminal) &&
                    sigaction(signals[i].number, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
                        sigaddset(&set, signals[i].number);
        r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (r->signals < 0) {
                int error = errno;

                result_set(why, RESULT_FAILED, "no descriptor for signals: %s", strerror(error));
                return -error;
        }
        sigprocmask(SIG_BLOCK, &set, NULL);
        return 0;
}

/* To the job, if it runs; else there is nothing to wait for. The second SIGINT kills. */
static void pass_signal(struct run *r, int signo) {
        char line[32];

        if (!job_files_is_running(&r->files)) {
                r->status = EXIT_SIGNAL + signo;
                return;
        }
        snprintf(line, sizeof(line), "signal %d\n", signo);
        job_files_control(&r->files, signo == SIGINT && r->interrupted ? "kill\n" : line);
        r->interrupted |= signo == SIGINT;
}

static void resize(const struct run *r) {
        char size[TERMINAL_SIZE_TEXT], line[sizeof("resize \n") + TERMINAL_SIZE_TEXT];

        terminal_size(size);
        snprintf(line, sizeof(line), "resize %s\n", size);
        job_files_control(&r->files, line);
}

static void take_terminal(struct run *r) {
        terminal_make_raw(&r->terminal);
        resize(r);
}

static void on_signal(struct run *r) {
        struct signalfd_siginfo info;

        if (read(r->signals, &info, sizeof(info)) != sizeof(info))
                return;
        switch (info.ssi_signo) {
        case SIGWINCH:
                resize(r);
                break;
        case SIGTSTP:
                terminal_restore(&r->terminal);
                raise(SIGSTOP);
                break;
        case SIGCONT: /* the shell here has used the terminal meanwhile */
                if (r->environment < 0)
                        take_terminal(r);
                break;
        case SIGTERM:
        case SIGHUP:
                r->status = EXIT_SIGNAL + (int)info.ssi_signo;
                break;
        default:
                pass_signal(r, (int)info.ssi_signo);
        }
}

/* streams */

static bool is_same_file(int a, int b) {
        struct stat one, other;

        return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev &&
               one.st_ino == other.st_ino;
}

static int open_stream(struct run *r, struct stream *s, const char *name, int to, struct result *why) {
        int fd = job_files_open(&r->files, name, O_RDONLY, why);

        return fd < 0 ? fd : stream_init(s, fd, to);
}

/* If both streams go to the same place, `output` has them in the order in which they were written. */
static int open_streams(struct run *r, struct result *why) {
        bool is_one = r->arguments.has_terminal || is_same_file(STDOUT_FILENO, STDERR_FILENO);
        int n = open_stream(r, &r->out, is_one ? "output" : "stdout", STDOUT_FILENO, why);

        if (n == 0 && !is_one)
                n = open_stream(r, &r->err, "stderr", STDERR_FILENO, why);
        if (n == 0 && !r->arguments.has_no_input) {
                n = job_files_open(&r->files, "stdin", O_WRONLY, why);
                if (n >= 0)
                        n = stream_init(&r->in, STDIN_FILENO, n);
        }
        if (n == 0 && r->arguments.has_terminal)
                n = r->environment = job_files_open(&r->files, "../../environment", O_RDONLY, why);
        return n < 0 ? n : 0;
}

/* A terminal here stays as it is until then: ^C gives up a job that waits. */
static void on_environment(struct run *r) {
        close_fd(TAKE_FD(r->environment));
        take_terminal(r);
}

/* It is no failure if the job takes no more: it may have ended, or have closed its input. */
static void move_input(struct run *r) {
        struct result why;
        int n;

        stream_move(&r->in);
        if (!r->in.ended)
                return;
        close_fd(TAKE_FD(r->in.to));
        n = r->in.write_error;
        if (n < 0)
                job_files_explain(&r->files, "stdin", n, &why);
        else
                n = job_files_write(&r->files, "ctl", "eof\n", 4, &why);
        if (n < 0 && n != -EPIPE) {
                complain(why.text);
                r->status = EXIT_OURS;
        }
}

/* A command whose output nobody reads would die by SIGPIPE. */
static void move_output(struct run *r, struct stream *s) {
        struct result why;

        stream_move(s);
        if (!s->write_error)
                return;
        r->status = s->write_error == -EPIPE ? EXIT_SIGNAL + SIGPIPE : EXIT_OURS;
        if (s->write_error == -EPIPE)
                return;
        result_set(&why, RESULT_FAILED, "standard %s: %s", s == &r->err ? "error" : "output", strerror(-s->write_error));
        complain(why.text);
}

static void turn(struct run *r) {
        enum { SIGNALS, ENVIRONMENT, IN, OUT, ERR, N };
        struct pollfd fds[N] = {
                [SIGNALS] = { .fd = r->signals, .events = POLLIN },
                [ENVIRONMENT] = { .fd = r->environment, .events = POLLIN },
                [IN] = r->environment >= 0 ? (struct pollfd){ .fd = -1 } : stream_wants(&r->in),
                [OUT] = stream_wants(&r->out),
                [ERR] = stream_wants(&r->err),
        };

        if (poll(fds, N, -1) < 0)
                return;
        if (fds[SIGNALS].revents)
                on_signal(r);
        if (fds[ENVIRONMENT].revents)
                on_environment(r);
        if (fds[IN].revents)
                move_input(r);
        if (fds[OUT].revents)
                move_output(r, &r->out);
        if (fds[ERR].revents)
                move_output(r, &r->err);
}

/* the end */

/* What happened to the job, such as that it had no time left, or that its cwd is not there. Whether there was something. */
static bool tell_error(const struct run *r) {
        struct buf text = BUF_INIT(TEXT_SIZE_MAX);
        struct result why;
        bool told = job_files_read(&r->files, "error", &text, &why) == 0 && strcmp(buf_text(&text), "ok\n") != 0;

        if (told) {
                result_set(&why, RESULT_FAILED, "%s: %s", r->arguments.dir, buf_text(&text));
                complain(why.text);
        }
        buf_deinit(&text);
        return told;
}

static int read_exit_code(const struct run *r) {
        struct buf code = BUF_INIT(TEXT_SIZE_MAX);
        struct result why;
        int n = job_files_read(&r->files, "exit_code", &code, &why), status = n < 0 ? EXIT_OURS : atoi(buf_text(&code));

        buf_deinit(&code);
        /* Who kills by ^C knows it. */
        if (!(n == 0 && r->interrupted) && !tell_error(r) && n < 0)
                complain(why.text);
        return status;
}

static void close_stream(struct stream *s, int fd) {
        close_fd(fd);
        stream_deinit(s);
}

static int run_job(struct run *r, struct result *why) {
        int n = open_streams(r, why);

        if (n < 0)
                return n;
        while (r->status < 0 && !(r->out.ended && r->err.ended))
                turn(r);
        terminal_restore(&r->terminal);
        if (r->status < 0)
                r->status = read_exit_code(r);
        return 0;
}

bool run_is_meant(int argc, char **argv) {
        return argc > 1 && (!strcmp(argv[1], "run") || !strcmp(argv[1], "shell"));
}

int run_command(int argc, char **argv) {
        struct run r = {
                .in = { .from = -1, .to = -1, .ended = true },
                .out = { .from = -1, .to = -1, .ended = true },
                .err = { .from = -1, .to = -1, .ended = true },
                .signals = -1,
                .environment = -1,
                .status = -1,
        };
        struct result why;
        int n = arguments_read(&r.arguments, argc - 1, argv + 1, &why);

        if (n == 0)
                n = catch_signals(&r, &why);
        if (n == 0)
                n = make_job(&r.files, &r.arguments, &why);
        if (n == 0)
                n = run_job(&r, &why);
        if (n < 0)
                complain(why.text);
        close_stream(&r.in, r.in.to);
        close_stream(&r.out, r.out.from);
        close_stream(&r.err, r.err.from);
        close_fd(r.environment);
        close_fd(r.signals);
        job_files_remove(&r.files);
        arguments_deinit(&r.arguments);
        return n < 0 ? EXIT_OURS : n > 0 ? EXIT_SUCCESS : r.status;
}
