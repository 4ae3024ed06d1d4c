/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The processes below some others, as /proc shows them, and signals to them. Used by a reaper, a process of its own:
 * so it may take its time, and memory as it needs it.
 *
 * A process is known by its number and the time of its start, and a signal goes only to that very one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
        pid_t pid, parent;
        uint64_t started; /* in the kernel's ticks since boot */
        bool zombie;      /* it has ended, and nobody has waited for it yet */
        bool found, spared;
};

/* In rising order of their numbers. */
struct processes {
        struct process *list;
        size_t n, size;
};

#define PROCESSES_INIT {}

void processes_deinit(struct processes *p);

/*
 * All there are. Where others are forking meanwhile they share a @version, see below: a child is either not in it, or
 * stands in what they share. 0, or -errno when not every process was seen.
 */
int processes_read(struct processes *p, int proc, const volatile uint32_t *version);
struct process *processes_lookup(const struct processes *p, pid_t pid);

/*
 * Whose descendants are looked for: the children of @parent and all below them, but for the children in @others and
 * all below those. Where @others is shared with the parent, the parent makes @version odd while it forks, and even
 * again once the new child stands in @others.
 */
struct family {
        pid_t parent;
        const volatile pid_t *others;
        size_t n_others;
        const volatile uint32_t *version; /* or NULL */
};

/* Marks those of the family as found, but for the caller. */
void processes_mark(struct processes *p, const struct family *family);

/* @proc: a descriptor of /proc. Zombies and the caller are left out. 0, or -errno when not every process was seen. */
typedef int processes_finder(struct processes *p, int proc, const void *who);
processes_finder processes_find; /* @who: a family */

void processes_signal(const struct processes *p, int proc, int signo);

/*
 * KILL to every one that @find finds, again as long as there are new ones. They are stopped first, so that none runs on
 * when another dies. 1: none was left, and that is sure. 0: some were; look again. Or -errno.
 */
int processes_kill(struct processes *left, int proc, processes_finder *find, const void *who);

/* "PID (NAME), PID (NAME)", as far as there is room. The names are the processes' own. */
void processes_describe(const struct processes *p, int proc, char *out, size_t size);
