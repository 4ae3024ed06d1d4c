/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/helper/agent/channel.h"
#include "pool/helper/agent/descriptors.h"
#include "pool/helper/agent/origin.h"
#include "pool/helper/agent/reapers.h"
#include "pool/helper/agent/watcher.h"
#include "pool/util/cleanup.h"

static unsigned n_watchers;

/* Where a path is looked up, from the strings of OPEN. False where they are none, or too long. */
static bool find_path(const struct frame *f, char path[WATCHER_PATH_MAX], const char **given) {
        const char *next = (const char *)f->data, *end = next + f->len, *workdir = spec_string(&next, end);
        int n;

        *given = spec_string(&next, end);
        if (!workdir || !*given || next != end || *workdir != '/')
                return false;
        n = **given == '/' ? snprintf(path, WATCHER_PATH_MAX, "%s", *given)
                           : snprintf(path, WATCHER_PATH_MAX, "%s%s/%s", origin.root, workdir, *given);
        return n < WATCHER_PATH_MAX;
}

static _Noreturn void run(int end, pid_t helper, const char *path, const char *given, bool recursive) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "modalpool-watch");
        if (getppid() != helper)
                _exit(0); /* the helper has died before it could take this one with it */
        descriptors_close_others(&end, 1);
        watcher_run(end, path, given, recursive);
}

static int watch_open(struct channel *c, const struct frame *f) {
        char path[WATCHER_PATH_MAX];
        const char *given;
        pid_t helper = getpid(), pid;
        int fds[2], r;

        if (!find_path(f, path, &given))
                return -ENAMETOOLONG;
        if (n_watchers == WATCHERS_MAX)
                return -EMFILE;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        pid = reapers_fork(&c->slot);
        if (pid == 0)
                run(fds[1], helper, path, given, f->flags & CHANNEL_RECURSIVE);
        close(fds[1]);
        if (pid < 0) {
                r = -errno;
                close(fds[0]);
                return r;
        }
        n_watchers++;
        c->has_watcher = true;
        return channel_use(c, fds[0]);
}

/* The first bytes are an errno. A job that is root can make it say anything. */
static void watch_began(struct channel *c) {
        int error;
        ssize_t n = recv(c->fd, &error, sizeof(error), MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n != sizeof(error) || error < 0 || error > HELPER_ERRNO_MAX)
                channel_fail(c, -EIO);
        else if (error > 0)
                channel_fail(c, -error);
        else
                channel_opened(c);
}

static void watch_close(struct channel *c) {
        pid_t pid;

        if (!c->has_watcher)
                return;
        c->has_watcher = false;
        n_watchers--;
        pid = reapers_pid(c->slot);
        if (pid > 0)
                kill(pid, SIGKILL);
        reapers_leave(c->slot);
}

const struct channel_ops watch_channel = {
        .open = watch_open,
        .ready = watch_began,
        .close = watch_close,
};
