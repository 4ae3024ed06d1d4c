/* SPDX-License-Identifier: MIT */
#include "pool/backend/local/processes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/util/cleanup.h"

struct process {
        pid_t pid, parent;
        bool zombie, found;
};

struct table {
        struct process *process;
        size_t n, size;
};

void pids_deinit(struct pids *s) {
        free(s->pid);
        *s = (struct pids)PIDS_INIT;
}

static int compare_pids(const void *a, const void *b) {
        pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

        return (x > y) - (x < y);
}

bool pids_have(const struct pids *s, pid_t pid) {
        return s->n > 0 && bsearch(&pid, s->pid, s->n, sizeof(pid), compare_pids);
}

void pids_signal(const struct pids *s, int signo) {
        for (size_t i = 0; i < s->n; i++)
                kill(s->pid[i], signo);
}

/* Read /proc/PID/stat. 0, -ESRCH if the process is gone, or -errno. */
static int read_stat(pid_t pid, char *stat, size_t size) {
        _cleanup_(cleanup_close) int fd = -1;
        char path[32];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        n = read(fd, stat, size - 1);
        if (n < 0)
                return -errno;
        stat[n] = '\0';
        return 0;
}

void pids_describe(const struct pids *s, struct buf *out) {
        char stat[512];

        for (size_t i = 0; i < s->n; i++) {
                const char *name, *end;

                if (read_stat(s->pid[i], stat, sizeof(stat)) < 0)
                        continue;
                name = strchr(stat, '(');
                end = strrchr(stat, ')'); /* the name may have any bytes */
                if (name && end && buf_printf(out, "%s%d (%.*s)", out->len ? ", " : "", s->pid[i],
                                              (int)(end - name - 1), name + 1) < 0)
                        return;
        }
}

static int grow(void **array, size_t *size, size_t n, size_t item) {
        size_t more = *size ? *size * 2 : 256;
        void *bigger;

        if (n < *size)
                return 0;
        bigger = realloc(*array, more * item);
        if (!bigger)
                return -ENOMEM;
        *array = bigger;
        *size = more;
        return 0;
}

/*
 * 0, -ESRCH if it is gone, or -errno. A process whose first thread has ended appears as a zombie, although other
 * threads go on.
 */
static int read_process(pid_t pid, struct process *p) {
        const char *rest;
        char stat[512], state;
        long threads;
        int r = read_stat(pid, stat, sizeof(stat));

        if (r < 0)
                return r;
        rest = strrchr(stat, ')');
        *p = (struct process){ .pid = pid };
        if (!rest || sscanf(rest + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld", &state,
                            &p->parent, &threads) != 3)
                return -ESRCH; /* it ended while it was read */
        p->zombie = (state == 'Z' || state == 'X') && threads <= 1;
        return 0;
}

bool pid_runs(pid_t pid) {
        struct process p;
        int r = read_process(pid, &p);

        return r == 0 ? !p.zombie : r != -ESRCH;
}

static int table_add(struct table *t, pid_t pid) {
        struct process p;
        int r = read_process(pid, &p);

        if (r < 0)
                return r == -ESRCH ? 0 : r;
        r = grow((void **)&t->process, &t->size, t->n, sizeof(p));
        if (r == 0)
                t->process[t->n++] = p;
        return r;
}

static int compare_processes(const void *a, const void *b) {
        return compare_pids(&((const struct process *)a)->pid, &((const struct process *)b)->pid);
}

static int table_read(struct table *t) {
        DIR *proc = opendir("/proc");
        struct dirent *e;
        int r = 0;

        if (!proc)
                return -errno;
        while (r == 0 && (errno = 0, e = readdir(proc)))
                if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && atoi(e->d_name) != getpid())
                        r = table_add(t, atoi(e->d_name));
        if (r == 0 && !e)
                r = -errno;
        closedir(proc);
        if (t->n > 0)
                qsort(t->process, t->n, sizeof(*t->process), compare_processes);
        return r;
}

static bool parent_is_found(const struct table *t, const struct process *p) {
        struct process parent = { .pid = p->parent };
        const struct process *found = bsearch(&parent, t->process, t->n, sizeof(parent), compare_processes);

        return found && found->found;
}

int pids_find(struct pids *out, bool (*is_top)(const void *data, pid_t pid, pid_t parent), const void *data) {
        struct table t = {};
        bool more = true;
        int r = table_read(&t);

        while (r == 0 && more) {
                more = false;
                for (size_t i = 0; i < t.n; i++) {
                        struct process *p = &t.process[i];

                        if (p->found || (!is_top(data, p->pid, p->parent) && !parent_is_found(&t, p)))
                                continue;
                        p->found = more = true;
                }
        }
        out->n = 0;
        for (size_t i = 0; r == 0 && i < t.n; i++) {
                if (!t.process[i].found || t.process[i].zombie)
                        continue;
                r = grow((void **)&out->pid, &out->size, out->n, sizeof(pid_t));
                if (r == 0)
                        out->pid[out->n++] = t.process[i].pid;
        }
        free(t.process);
        return r;
}
