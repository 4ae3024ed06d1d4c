/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/processes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pool/helper/agent/limits.h"
#include "pool/util/cleanup.h"

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

void processes_deinit(struct processes *p) {
        free(p->list);
        *p = (struct processes)PROCESSES_INIT;
}

/* What /proc/PID/stat says. 0, -ESRCH when the process is gone, or -errno. */
static int read_stat(int proc, pid_t pid, char *stat, size_t size) {
        _cleanup_(cleanup_close) int fd = -1;
        char path[32];
        ssize_t n;

        snprintf(path, sizeof(path), "%d/stat", pid);
        fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        n = read(fd, stat, size - 1);
        if (n < 0)
                return -errno;
        stat[n] = '\0';
        return 0;
}

/* Numbers of the line as proc(5) counts its fields; the first behind the name is 3, the state. */
enum { STATE = 3, PARENT = 4, THREADS = 20, STARTED = 22 };

/*
 * 0, -ESRCH when it is gone, or -errno. A process whose first thread has ended says that it is a zombie, while others
 * go on.
 */
static int read_process(int proc, pid_t pid, struct process *p) {
        unsigned long long values[STARTED + 1] = {};
        char stat[1024], *at;
        int r = read_stat(proc, pid, stat, sizeof(stat));

        if (r < 0)
                return r;
        at = strrchr(stat, ')'); /* the name may hold anything */
        if (!at || at[1] != ' ' || !at[2])
                return -ESRCH; /* it ended while it was read */
        values[STATE] = (unsigned char)at[2];
        at += 3;
        for (int i = PARENT; i <= STARTED; i++)
                values[i] = strtoull(at, &at, 10);
        *p = (struct process){ .pid = pid, .parent = (pid_t)values[PARENT], .started = values[STARTED] };
        p->zombie = (values[STATE] == 'Z' || values[STATE] == 'X') && values[THREADS] <= 1;
        return 0;
}

static int add(struct processes *p, const struct process *process) {
        if (p->n == p->size) {
                size_t size = p->size ? p->size * 2 : 64;
                struct process *list = realloc(p->list, size * sizeof(*list));

                if (!list)
                        return -ENOMEM;
                p->list = list;
                p->size = size;
        }
        p->list[p->n++] = *process;
        return 0;
}

static int compare(const void *a, const void *b) {
        pid_t x = ((const struct process *)a)->pid, y = ((const struct process *)b)->pid;

        return (x > y) - (x < y);
}

struct process *processes_lookup(const struct processes *p, pid_t pid) {
        struct process key = { .pid = pid };

        return p->n > 0 ? bsearch(&key, p->list, p->n, sizeof(key), compare) : NULL;
}

static int read_all(struct processes *p, int proc) {
        int fd = openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *d = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *e = NULL;

        if (!d) {
                r = -errno;
                close_fd(fd);
                return r;
        }
        p->n = 0;
        while (r == 0 && (errno = 0, e = readdir(d))) {
                struct process process;

                if (e->d_name[0] < '1' || e->d_name[0] > '9')
                        continue;
                r = read_process(proc, atoi(e->d_name), &process);
                r = r == -ESRCH ? 0 : r < 0 ? r : add(p, &process);
        }
        if (r == 0 && !e)
                r = -errno;
        closedir(d);
        if (p->n > 0)
                qsort(p->list, p->n, sizeof(*p->list), compare);
        return r;
}

static bool is_other(const struct family *f, pid_t pid) {
        for (size_t i = 0; i < f->n_others; i++)
                if (f->others[i] == pid)
                        return true;
        return false;
}

static bool belongs(const struct processes *p, const struct process *process, const struct family *f) {
        const struct process *parent;

        if (process->parent == f->parent)
                return process->pid != getpid() && !is_other(f, process->pid);
        parent = processes_lookup(p, process->parent);
        return parent && parent->found;
}

int processes_read(struct processes *p, int proc, const volatile uint32_t *shared_version) {
        uint32_t version;
        int r;

        if (!shared_version)
                return read_all(p, proc);
        do {
                while ((version = *shared_version) % 2)
                        sched_yield();
                r = read_all(p, proc);
        } while (r == 0 && *shared_version != version);
        return r;
}

void processes_mark(struct processes *p, const struct family *family) {
        bool more = true;

        /* A child may have a lower number than its parent. */
        while (more) {
                more = false;
                for (size_t i = 0; i < p->n; i++)
                        if (!p->list[i].found && belongs(p, &p->list[i], family))
                                p->list[i].found = more = true;
        }
}

int processes_find(struct processes *p, int proc, const void *who) {
        const struct family *family = who;
        size_t n = 0;
        int r = processes_read(p, proc, family->version);

        if (r < 0)
                return r;
        processes_mark(p, family);
        for (size_t i = 0; i < p->n; i++)
                if (p->list[i].found && !p->list[i].zombie)
                        p->list[n++] = p->list[i];
        p->n = n;
        return 0;
}

/* The number may be another process's by now: once there is a descriptor of it, it cannot become so any more. */
static void signal_one(const struct process *p, int proc, int signo) {
        _cleanup_(cleanup_close) int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
        struct process now;

        if (read_process(proc, p->pid, &now) < 0 || now.started != p->started)
                return;
        if (fd < 0 || (syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0) < 0 && errno == ENOSYS))
                kill(p->pid, signo);
}

void processes_signal(const struct processes *p, int proc, int signo) {
        for (size_t i = 0; i < p->n; i++)
                signal_one(&p->list[i], proc, signo);
}

static bool has_new(const struct processes *now, const struct processes *before) {
        for (size_t i = 0; i < now->n; i++) {
                const struct process *same = processes_lookup(before, now->list[i].pid);

                if (!same || same->started != now->list[i].started)
                        return true;
        }
        return false;
}

int processes_kill(struct processes *left, int proc, processes_finder *find, const void *who) {
        struct processes before = PROCESSES_INIT, swap;
        int r = 0;

        left->n = 0;
        for (int i = 0; i < FORK_ROUNDS; i++) {
                swap = before;
                before = *left;
                *left = swap;
                r = find(left, proc, who);
                if (r < 0 || !has_new(left, &before))
                        break;
                processes_signal(left, proc, SIGSTOP);
        }
        if (r == 0)
                processes_signal(left, proc, SIGKILL);
        processes_deinit(&before);
        return r < 0 ? r : left->n == 0;
}

void processes_describe(const struct processes *p, int proc, char *out, size_t size) {
        char stat[1024];
        size_t used = 0;

        *out = '\0';
        for (size_t i = 0; i < p->n; i++) {
                const char *name, *end;
                int n;

                if (read_stat(proc, p->list[i].pid, stat, sizeof(stat)) < 0)
                        continue;
                name = strchr(stat, '(');
                end = strrchr(stat, ')');
                if (!name || !end || end < name)
                        continue;
                n = snprintf(out + used, size - used, "%s%d %.*s", used ? ", " : "", p->list[i].pid,
                             (int)(end - name + 1), name);
                if (n < 0 || (size_t)n >= size - used) {
                        out[used] = '\0';
                        return;
                }
                used += n;
        }
}
