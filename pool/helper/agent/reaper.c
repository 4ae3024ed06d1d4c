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
        bool ready; /* the helper knows that nothing is left */
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
        int found = processes_kill(&left, w->io.proc, processes_find, &w->family);

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

static void shell_ended(struct watch *w, int status, bool alone) {
        struct reaper_report r = {
                .type = REAPER_ENDED, .status = status, .ran_us = clock_now() - w->started_us, .ready = alone
        };

        /* When a session ends, some kernels send HUP to what is stopped in it. */
        if (w->killed && WIFSIGNALED(status))
                r.status = SIGKILL;
        w->shell = 0;
        w->ready = alone;
        start_finish(&w->start);
        report(w, &r);
}

/* False: nothing is below this process any more. */
static bool reap(struct watch *w) {
        int status, status_of_shell = 0;
        bool ended = false, alone;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                if (pid == w->shell) {
                        ended = true;
                        status_of_shell = status;
                }
        alone = pid < 0 && errno == ECHILD;
        if (ended)
                shell_ended(w, status_of_shell, alone);
        return !alone;
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

static void run(struct watch *w) {
        while (goes_on(w)) {
                int64_t now = clock_now();

                check_deadline(w, now);
                if (w->killing && now >= w->kill_us)
                        kill_again(w, now);
                wait_for_events(w);
        }
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
                close(spec->streams[i]);
        start_release(&w->start);
}

/* the job comes */

enum { N_FDS = 6 }; /* strings, three streams, and two reading ends where there are some */

struct packet {
        struct iovec iov;
        struct msghdr m;
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(N_FDS * sizeof(int))];
        } fds;
};

static void packet_init(struct packet *p, struct start_spec *spec) {
        *p = (struct packet){ .iov = { spec, sizeof(*spec) } };
        p->m = (struct msghdr){
                .msg_iov = &p->iov, .msg_iovlen = 1, .msg_control = &p->fds, .msg_controllen = sizeof(p->fds)
        };
}

int reaper_give(int channel, const struct start_spec *spec, const int reads[2]) {
        const int fds[N_FDS] = { spec->strings, spec->streams[0], spec->streams[1], spec->streams[2], reads[0], reads[1] };
        size_t size = (reads[0] < 0 ? N_FDS - 2 : N_FDS) * sizeof(int);
        struct start_spec copy = *spec;
        struct packet p;
        struct cmsghdr *c;

        packet_init(&p, &copy);
        p.m.msg_controllen = CMSG_SPACE(size);
        c = CMSG_FIRSTHDR(&p.m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(c), fds, size);
        return sendmsg(channel, &p.m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/*
 * Waits for it. Orders that it overtakes were for the job before. Its pointers are to what this process has in common
 * with the helper since the fork. False: the helper is gone, or needs this process no more.
 */
static bool take_job(struct watch *w, struct start_spec *spec) {
        int fds[N_FDS] = { -1, -1, -1, -1, -1, -1 };
        struct cmsghdr *c;
        struct packet p;
        ssize_t n;

        do {
                packet_init(&p, spec);
                n = recvmsg(w->io.channel, &p.m, MSG_CMSG_CLOEXEC);
                c = n > 0 ? CMSG_FIRSTHDR(&p.m) : NULL;
        } while (n > 0 ? !c : n < 0 && errno == EINTR);
        if (n != sizeof(*spec) || c->cmsg_len < CMSG_LEN((N_FDS - 2) * sizeof(int)))
                return false;
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
        spec->strings = fds[0];
        memcpy(spec->streams, fds + 1, sizeof(spec->streams));
        memcpy(w->io.reads, fds + 4, sizeof(w->io.reads));
        return true;
}

static void do_job(struct watch *w) {
        const struct start_spec *spec = w->io.spec;
        struct reaper_report r = { .type = REAPER_FAILED, .ready = true };
        pid_t shell = -1;

        if (start_prepare(&w->start, spec, &r.failure)) {
                w->started_us = clock_now();
                shell = start_shell(&w->start, tell_starting, w, &r.failure);
        }
        close_starting(w);
        if (shell < 0) {
                start_finish(&w->start);
                w->ready = true;
                report(w, &r);
                return;
        }
        w->shell = shell;
        if (spec->timeout_us > 0)
                w->deadline_us = clock_after(w->started_us, spec->timeout_us);
        r = (struct reaper_report){ .type = REAPER_STARTED };
        report(w, &r);
        run(w);
}

_Noreturn void reaper_run(int channel, int proc) {
        static struct watch w;
        static struct start_spec spec = { .strings = -1, .streams = { -1, -1, -1 } };
        struct reaper io = { .spec = &spec, .channel = channel, .reads = { -1, -1 }, .proc = proc };
        struct reaper_report ready = { .type = REAPER_READY, .ready = true };

        prctl(PR_SET_CHILD_SUBREAPER, 1);
        init(&w, &io);
        for (;;) {
                w = (struct watch){ .io = io, .family.parent = getpid(), .deadline_us = USEC_NEVER };
                if (!take_job(&w, &spec))
                        _exit(0);
                do_job(&w);
                close_fd(w.io.reads[0]);
                close_fd(w.io.reads[1]);
                if (w.io.channel < 0)
                        _exit(0);
                if (!w.ready)
                        report(&w, &ready);
        }
}

_Noreturn void guardian_run(const struct reaper *io, const struct family *family, int64_t deadline_us) {
        static struct watch w;

        init(&w, io);
        w.guards = true;
        w.family = *family;
        w.deadline_us = deadline_us;
        w.shell = -1;
        run(&w);
        _exit(0);
}
