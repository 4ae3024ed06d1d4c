/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/helper/agent/limits.h"
#include "pool/helper/agent/origin.h"

struct leftovers {
        const struct family *reapers;
        bool sandbox;
        struct stat program; /* the helper's */
};

static bool is_reaper(const struct leftovers *l, const struct process *p) {
        if (p->parent != l->reapers->parent)
                return false;
        for (size_t i = 0; i < l->reapers->n_others; i++)
                if (l->reapers->others[i] == p->pid)
                        return true;
        return false;
}

/* It runs the helper's program, and is no child of a job: only what comes from outside attaches. */
static bool is_attach(const struct leftovers *l, int proc, const struct process *p) {
        char path[32];
        struct stat st;

        snprintf(path, sizeof(path), "%d/exe", p->pid);
        return !p->found && fstatat(proc, path, &st, 0) == 0 && st.st_dev == l->program.st_dev &&
               st.st_ino == l->program.st_ino;
}

/* Marks the process and those above it. */
static void spare(struct processes *all, struct process *p) {
        for (size_t i = 0; p && !p->spared && i < all->n; i++) {
                p->spared = true;
                p = processes_lookup(all, p->parent);
        }
}

static void spare_outsiders(const struct leftovers *l, struct processes *all, int proc) {
        for (size_t i = 0; i < all->n; i++) {
                struct process *p = &all->list[i];

                if (p->pid == l->reapers->parent || is_attach(l, proc, p))
                        spare(all, p);
                else if (origin_has_process(p->pid, p->started))
                        p->spared = true;
        }
}

static bool is_left(const struct leftovers *l, const struct process *p) {
        if (p->zombie || p->pid == getpid())
                return false;
        if (p->found)
                return !is_reaper(l, p);
        return l->sandbox && !p->spared;
}

static int find(struct processes *p, int proc, const void *who) {
        const struct leftovers *l = who;
        size_t n = 0;
        int r = processes_read(p, proc, l->reapers->version);

        if (r < 0)
                return r;
        processes_mark(p, &(struct family){ .parent = l->reapers->parent });
        if (l->sandbox)
                spare_outsiders(l, p, proc);
        for (size_t i = 0; i < p->n; i++)
                if (is_left(l, &p->list[i]))
                        p->list[n++] = p->list[i];
        p->n = n;
        return 0;
}

/* Signals all that are there, none with 0. How many there are besides the caller. */
static size_t signal_reapers(const struct family *reapers, int signo) {
        size_t n = 0;

        for (size_t i = 0; i < reapers->n_others; i++) {
                pid_t pid = reapers->others[i];

                if (pid > 0 && pid != getpid())
                        n += kill(pid, signo) == 0;
        }
        return n;
}

/*
 * Processes that fork all the time can be faster than any look at them. To stop all at once is the one thing that no
 * fork escapes, and it stops the helper, too: so it comes only when all else was in vain, and ends with the round.
 */
static int kill_stopped(const struct leftovers *l, struct processes *left) {
        int r;

        if (!l->sandbox)
                return processes_kill(left, origin.proc, find, l);
        kill(-1, SIGSTOP);
        r = processes_kill(left, origin.proc, find, l);
        kill(-1, SIGCONT);
        return r;
}

/*
 * What was forked during a look may be missed by it: so two in a row have to find nothing. A job that is root can keep
 * its reaper from ending.
 */
static int kill_rounds(const struct leftovers *l, struct processes *left) {
        int64_t begin = clock_now(), took = 0;
        bool late = false;
        int quiet = 0;

        while (quiet < 2) {
                int r = late ? kill_stopped(l, left) : processes_kill(left, origin.proc, find, l);
                bool reapers = signal_reapers(l->reapers, 0) > 0;

                if (r < 0)
                        return r;
                quiet = r == 1 && !reapers ? quiet + 1 : 0;
                if (quiet > 0)
                        continue;
                took = clock_now() - begin;
                if (took >= LEFTOVERS_TIME_US)
                        return -ETIMEDOUT;
                if (!late && took >= LEFTOVERS_LATE_US)
                        signal_reapers(l->reapers, SIGKILL);
                late = took >= LEFTOVERS_LATE_US;
                poll(NULL, 0, KILL_ROUND_MS);
        }
        return 0;
}

int leftovers_kill(const struct family *reapers, bool sandbox, char *names, size_t size) {
        struct leftovers l = { .reapers = reapers, .sandbox = sandbox };
        struct processes left = PROCESSES_INIT;
        int r;

        *names = '\0';
        if (origin.proc < 0)
                return -ENOENT;
        if (sandbox && origin.too_many)
                return -EOVERFLOW;
        if (sandbox && fstatat(origin.proc, "self/exe", &l.program, 0) < 0)
                return -errno;
        r = kill_rounds(&l, &left);
        if (r == -ETIMEDOUT)
                processes_describe(&left, origin.proc, names, size);
        processes_deinit(&left);
        return r;
}
