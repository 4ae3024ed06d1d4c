/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The processes below one, as /proc shows them. There is no maximum but that of the kernel: on a machine of many
 * thousands of processes all of them are looked at.
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

/* Whether there is such a process, and no zombie. */
bool pid_runs(pid_t pid);

/* Sends @signo to each; one that is gone meanwhile does not matter. */
void pids_signal(const struct pids *s, int signo);

/* Appends "PID (NAME), PID (NAME)" to @out, as far as there is room. The names are the processes' own. */
void pids_describe(const struct pids *s, struct buf *out);

/*
 * Puts into @out every process for which @is_top says yes, and all that descend from one; zombies are left out, and
 * so is the caller. 0, or -errno when not every process could be looked at: then @out is not to be relied on.
 */
int pids_find(struct pids *out, bool (*is_top)(const void *data, pid_t pid, pid_t parent), const void *data);
