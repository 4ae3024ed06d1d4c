/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/reaper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool/helper/agent/descriptors.h"
#include "pool/helper/agent/processes.h"
#include "pool/util/cleanup.h"

/* The one of this process. */
struct watch {
        struct reaper io;
        struct start start;
        struct family family;
        bool guards;      /* is no parent of the job's processes */
        pid_t shell;      /* 0: it has ended; -1: a guardian does not know it */
        int64_t started_us, deadline_us;
        bool killing, told_left;
        bool killed;        /* KILL was sent */
        int64_t kill_us;    /* when to KILL, or to look again for what there is to KILL */
        int64_t give_up_us; /* when to say what is left */
        unsigned n_empty;   /* looks in a row that found nothing */
        bool draining, leaving;
};

static void report(const struct watch *w, struct reaper_report *r) {
        if (w->io.channel >= 0)
                (void)send(w->io.channel, r, sizeof(*r), MSG_NOSIGNAL);
}

/* the end of the job's processes */

static void signal_all(const struct watch *w, int signo) {
        struct processes found = PROCESSES_INIT;

        if (processes_find(&found, w->io.proc, &w->family) == 0)
                processes_signal(&found, w->io.proc, signo);
        else if (w->shell > 0)
                kill(-w->shell, signo); /* without /proc: as far as its own group goes */
        processes_deinit(&found);
}

static void kill_start(struct watch *w, int64_t grace_us, int64_t now) {
        if (w->killing && grace_us > 0)
                return;
        w->killing = true;
        w->kill_us = clock_after(now, grace_us);
        w->give_up_us = clock_after(w->kill_us, KILL_TIME_US);
        if (grace_us > 0)
                signal_all(w, SIGTERM);
}

/* A reaper knows by wait() that nothing is left. A guardian has to look twice. */
static void kill_again(struct watch *w, int64_t now) {
        struct reaper_report r = { .type = REAPER_LEFT };
        struct processes left = PROCESSES_INIT;
        int found = processes_kill(&left, w->io.proc, &w->family);

        if (found < 0 && w->shell > 0)
                kill(-w->shell, SIGKILL);
        w->killed = true;
        w->n_empty = found == 1 ? w->n_empty + 1 : 0;
        w->kill_us = now + KILL_ROUND_MS * USEC_PER_MSEC;
        if (!w->told_left && now >= w->give_up_us && (found != 1 || !w->guards)) {
                w->told_left = true;
                processes_describe(&left, w->io.proc, r.failure.text, sizeof(r.failure.text));
                report(w, &r);
        }
        processes_deinit(&left);
}

static void check_deadline(struct watch *w, int64_t now) {
        struct reaper_report r = { .type = REAPER_TIMEOUT };

        if (!w->shell || now < w->deadline_us)
                return;
        w->deadline_us = USEC_NEVER;
        report(w, &r);
        kill_start(w, w->io.spec->grace_us, now);
}

/* events */

static void shell_ended(struct watch *w, int status, int64_t now) {
        struct reaper_report r = { .type = REAPER_ENDED, .status = status, .ran_us = now - w->started_us };

        /* When a session ends, some kernels send HUP to what is stopped in it. */
        if (w->killed && WIFSIGNALED(status))
                r.status = SIGKILL;
        w->shell = 0;
        start_finish(&w->start);
        report(w, &r);
}

/* False: nothing is below this process any more. */
static bool reap(struct watch *w) {
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                if (pid == w->shell)
                        shell_ended(w, status, clock_now());
        return pid == 0 || errno != ECHILD;
}

static void on_order(struct watch *w, const struct reaper_order *o, int64_t now) {
        switch (o->type) {
        case REAPER_SIGNAL:
                signal_all(w, o->signo);
                break;
        case REAPER_KILL:
                kill_start(w, o->grace_us, now);
                break;
        case REAPER_SHELL_ENDED:
                w->shell = 0;
                break;
        case REAPER_DRAIN:
                w->draining = true;
                break;
        case REAPER_LEAVE:
                w->leaving = true;
                break;
        }
}

static void take_orders(struct watch *w) {
        struct reaper_order o;
        ssize_t n;

        while (w->io.channel >= 0) {
                n = recv(w->io.channel, &o, sizeof(o), MSG_DONTWAIT);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n == sizeof(o)) {
                        on_order(w, &o, clock_now());
                        continue;
                }
                close(TAKE_FD(w->io.channel));
                if (!w->leaving)
                        kill_start(w, 0, clock_now());
        }
}

static void drain(struct watch *w, int i) {
        static char dropped[PACKET_SIZE];
        ssize_t n = read(w->io.reads[i], dropped, sizeof(dropped));

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                close(TAKE_FD(w->io.reads[i]));
}

static void wait_for_events(struct watch *w) {
        struct pollfd fds[3] = { { .fd = w->io.channel, .events = POLLIN } };
        int64_t now = clock_now(), until = w->killing ? w->kill_us : USEC_NEVER, left;
        struct timespec ts;
        sigset_t others;

        if (w->shell)
                until = clock_earlier(until, w->deadline_us);
        left = until <= now ? 0 : until - now;
        ts = (struct timespec){ .tv_sec = left / USEC_PER_SEC, .tv_nsec = left % USEC_PER_SEC * 1000 };
        for (int i = 0; i < 2; i++)
                fds[1 + i] = (struct pollfd){ .fd = w->draining ? w->io.reads[i] : -1, .events = POLLIN };
        sigfillset(&others);
        sigdelset(&others, SIGCHLD);
        if (ppoll(fds, 3, until == USEC_NEVER ? NULL : &ts, &others) <= 0)
                return;
        if (fds[0].revents)
                take_orders(w);
        for (int i = 0; i < 2; i++)
                if (fds[1 + i].revents)
                        drain(w, i);
}

/* A guardian ends when all that it was to kill is gone, or nobody needs it. */
static bool goes_on(struct watch *w) {
        if (w->guards)
                return w->n_empty < 2 && !(w->leaving && !w->killing);
        return reap(w);
}

static _Noreturn void run(struct watch *w) {
        while (goes_on(w)) {
                int64_t now = clock_now();

                check_deadline(w, now);
                if (w->killing && now >= w->kill_us)
                        kill_again(w, now);
                wait_for_events(w);
        }
        _exit(0);
}

static void on_child(int signo) {
}

static void init(struct watch *w, const struct reaper *io) {
        const struct start_spec *spec = io->spec;
        const int keep[] = { io->channel,  io->reads[0],     io->reads[1],     io->proc,
                             spec->strings, spec->streams[0], spec->streams[1], spec->streams[2] };

        w->io = *io;
        descriptors_close_others(keep, sizeof(keep) / sizeof(keep[0]));
        prctl(PR_SET_NAME, "modalpool-job");
        signal(SIGCHLD, on_child); /* blocked but for the time of ppoll(), which it ends */
}

static void tell_starting(void *data, pid_t pid) {
        struct watch *w = data;
        struct reaper_report r = { .type = REAPER_STARTING, .shell = pid, .at_us = w->started_us };

        report(w, &r);
}

static void close_starting(struct watch *w) {
        const struct start_spec *spec = w->io.spec;

        close(spec->strings);
        for (int i = 0; i < 3; i++)
                if (i == 0 || spec->streams[i] != spec->streams[i - 1])
                        close(spec->streams[i]);
        close_fd(TAKE_FD(w->start.cwd_fd));
}

_Noreturn void reaper_run(const struct reaper *io) {
        static struct watch w = { .deadline_us = USEC_NEVER };
        struct reaper_report r = { .type = REAPER_FAILED };
        pid_t shell = -1;

        prctl(PR_SET_CHILD_SUBREAPER, 1);
        init(&w, io);
        w.family = (struct family){ .parent = getpid() };
        if (start_prepare(&w.start, io->spec, &r.failure)) {
                w.started_us = clock_now();
                shell = start_shell(&w.start, tell_starting, &w, &r.failure);
        }
        close_starting(&w);
        if (shell < 0) {
                start_finish(&w.start);
                report(&w, &r);
                _exit(0);
        }
        w.shell = shell;
        if (io->spec->timeout_us > 0)
                w.deadline_us = clock_after(w.started_us, io->spec->timeout_us);
        r = (struct reaper_report){ .type = REAPER_STARTED };
        report(&w, &r);
        run(&w);
}

_Noreturn void guardian_run(const struct reaper *io, const struct family *family, int64_t deadline_us) {
        static struct watch w = { .guards = true };

        init(&w, io);
        w.family = *family;
        w.deadline_us = deadline_us;
        w.shell = -1;
        run(&w);
}
