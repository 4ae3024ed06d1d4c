/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The helper's jobs: a table of fixed size, what the daemon orders of them, and what there is to tell it. Their states
 * stand in protocol.h. Each has a reaper, a process of its own (reaper.h).
 *
 * Nothing here knows a carrier. One that is there gives frames and takes frames; jobs go on all the same without.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/helper/protocol.h"

/* What all jobs have in common. Borrowed for good. */
struct job_context {
        const char *dir;  /* the helper's own, for long commands */
        const char *root; /* what workdirs, and cwds below them, are in; or "" */
        int proc;         /* a descriptor of /proc, or -1 */
        int oom_score;    /* what jobs get */
        void (*forget)(void); /* wipes what no child is to have */
};

int helper_jobs_init(const struct job_context *context);

unsigned helper_jobs_count(void);

/* A frame from the daemon, of a type that is about a job. NULL, or what is wrong with it. */
const char *helper_jobs_take(const struct frame *f);

/* There is a new carrier: writes a JOB frame of each job to @out, and begins anew with what is not acknowledged. */
size_t helper_jobs_tell_all(uint8_t *out);

/*
 * The next frame to send: of what has changed with a job, which is little; and of output and ends. False when there is
 * none. Its data is good until the next call of anything here.
 */
bool helper_jobs_next_state(struct frame *f);
bool helper_jobs_next_output(struct frame *f);

/* Ends every job at once, with all its processes. */
void helper_jobs_kill_all(void);

/* Does what is due. Returns when to call it again. */
int64_t helper_jobs_tick(void);

/* A child of the helper has ended, or was stopped. */
void helper_jobs_reaped(pid_t pid, int status);
void helper_jobs_stopped(pid_t pid);
