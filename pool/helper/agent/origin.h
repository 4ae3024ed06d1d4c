/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The sandbox as the helper found it when it started, before any job: what was there then is the sandbox's own, and a
 * clean-up leaves it alone.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define ORIGIN_PROCESSES_MAX 512
#define ORIGIN_PATH_MAX 4096

struct origin_process {
        pid_t pid;
        uint64_t started; /* in the kernel's ticks since boot */
};

struct origin {
        int proc;                      /* /proc, or -1 */
        int mounts;                    /* a file of what was mounted, or -1 */
        int manifest;                  /* a file, for a note (manifest.h), or -1 */
        struct timespec time;          /* by the clock of files */
        char dir[ORIGIN_PATH_MAX];     /* the helper's directory, and its program, without links; or "" */
        char program[ORIGIN_PATH_MAX];
        const char *root;              /* the directory that is the whole sandbox, or "" */
        struct origin_process processes[ORIGIN_PROCESSES_MAX];
        size_t n_processes;
        bool too_many; /* processes to be kept here */
};

/* The one of this helper. */
extern struct origin origin;

/* @dir: of the helper; @root: borrowed; @proc: /proc or -1. To be called once. 0 or -errno. */
int origin_note(const char *dir, const char *root, int proc);

bool origin_has_process(pid_t pid, uint64_t started);
