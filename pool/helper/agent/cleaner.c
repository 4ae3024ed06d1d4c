/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/cleaner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/helper/agent/channels.h"
#include "pool/helper/agent/descriptors.h"
#include "pool/helper/agent/files/files.h"
#include "pool/helper/agent/jobs.h"
#include "pool/helper/agent/limits.h"
#include "pool/helper/agent/loop.h"
#include "pool/helper/agent/origin.h"
#include "pool/helper/agent/reapers.h"
#include "pool/util/cleanup.h"

#define DESCRIPTORS 1024

static int channel = -1; /* to the process */
static unsigned slot;
static void (*on_done)(const struct clean_report *report);

static void on_channel(struct loop_source *source, uint32_t events);

static struct loop_source channel_source = { .ready = on_channel };

/* A walk takes a descriptor for each level of a tree. */
static void raise_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= DESCRIPTORS)
                return;
        limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Then it is killed. */
static void limit_time(void) {
        const struct rlimit limit = { CLEANER_CPU_SECS, CLEANER_CPU_SECS };

        (void)setrlimit(RLIMIT_CPU, &limit);
}

static _Noreturn void run(const struct clean_request *request, int end, const struct family *reapers) {
        static struct clean_report report;
        const int keep[] = { end, origin.proc, origin.mounts, origin.manifest };

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "modalpool-clean");
        if (getppid() != reapers->parent)
                _exit(0); /* the helper has died before it could take this one with it */
        descriptors_close_others(keep, sizeof(keep) / sizeof(*keep));
        raise_limit();
        limit_time();
        clean_do(request, reapers, &report);
        (void)send(end, &report, sizeof(report), MSG_NOSIGNAL);
        _exit(0);
}

static void close_channel(void) {
        loop_remove(channel);
        close(TAKE_FD(channel));
        reapers_keep_one(true);
}

static void on_channel(struct loop_source *source, uint32_t events) {
        static struct clean_report report;
        ssize_t n;

        if (channel < 0)
                return;
        n = recv(channel, &report, sizeof(report), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        close_channel();
        reapers_leave(slot);
        /* A job that is root can make it say anything. */
        if (n != sizeof(report) || report.error < 0 || report.len > sizeof(report.text)) {
                report.error = EIO;
                report.len = snprintf(report.text, sizeof(report.text), "the process that cleans was killed, or took too long");
        }
        on_done(&report);
}

int cleaner_start(const struct clean_request *request, void (*done)(const struct clean_report *report)) {
        struct family reapers = reapers_orphans();
        int fds[2], r;
        pid_t pid;

        /* An earlier note is none any more, also if this one comes to nothing. */
        if (request->kind == HELPER_NOTE && origin.manifest >= 0 && ftruncate(origin.manifest, 0) < 0)
                return -errno;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        channel = fds[0];
        on_done = done;
        if (request->kind == HELPER_CLEAN) {
                helper_jobs_kill_all();
                files_end();
                channels_end_all();
                reapers_keep_one(false);
        }
        r = loop_add(channel, &channel_source, EPOLLIN);
        if (r == 0) {
                pid = reapers_fork(&slot);
                if (pid == 0)
                        run(request, fds[1], &reapers);
                r = pid < 0 ? -errno : 0;
        }
        close(fds[1]);
        if (r < 0)
                close_channel();
        return r;
}

void cleaner_cancel(void) {
        pid_t pid = reapers_pid(slot);

        if (pid > 0)
                kill(pid, SIGKILL);
        reapers_leave(slot);
        close_channel();
}
