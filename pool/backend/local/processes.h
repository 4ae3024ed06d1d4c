/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The descendants of a process, as /proc shows them. Their number is bounded by the kernel only, and finding them reads
 * every process of the PID namespace.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "pool/util/buf.h"

/* Process numbers, in rising order. */
struct pids {
        pid_t *pid;
        size_t n, size;
};

#define PIDS_INIT {}

void pids_deinit(struct pids *s);
bool pids_have(const struct pids *s, pid_t pid);

/* Whether the process exists and is no zombie. */
bool pid_runs(pid_t pid);

/* Send @signo to each process that still exists. */
void pids_signal(const struct pids *s, int signo);

/* Append "PID (NAME), PID (NAME)" to @out, as far as there is room. The names come from the processes themselves. */
void pids_describe(const struct pids *s, struct buf *out);

/*
 * Put into @out every process for which @is_top is true, and all their descendants, but neither zombies nor the caller.
 * On -errno some process could not be read, and @out may be incomplete.
 */
int pids_find(struct pids *out, bool (*is_top)(const void *data, pid_t pid, pid_t parent), const void *data);
