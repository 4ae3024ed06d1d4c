/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The jobs of a local environment, as its agent runs them.
 *
 * Each job has a supervisor: a child of the agent, and a subreaper (prctl(2)). It starts the shell and inherits the
 * orphans of the job's processes. So the processes below a supervisor are exactly those of its job, whatever they did
 * to their environment, title, session or parent. The supervisor lives as long as they do, which keeps background
 * processes of an ended job apart from those of the next.
 *
 *   running → ended            the shell has ended; the supervisor stays for the background processes
 *   running → killed → ended   all its processes have ended, or cannot be ended
 *
 * Each end is reported once. A job that kills its supervisor goes on. The agent then inherits its orphans, and counts
 * them as processes of every such job.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/backend/local/protocol.h"

/* What to start. Everything is borrowed. */
struct job_spec {
        uint32_t number;
        const char *shell, *command;
        const char *run_dir; /* where a script can be put for the life of the job */
        int cwd;
        int fds[3];
        const char *const *env;
};

/* Call once. @epoll is that of the agent's loop; @reply sends a message to the daemon. */
void jobs_init(int epoll, void (*reply)(enum agent_reply_type type, uint32_t job, int code, const char *text));

/*
 * 0, or -errno if the shell could not be started; if @what is set, it names an earlier step that failed. A reply
 * reports the end of the job.
 */
int job_start(const struct job_spec *spec, const char **what);

/* Whether its shell still runs. If it has ended, the end is reported before this returns. */
bool job_runs(uint32_t number);

/* These have no effect on a job that has ended. */
void job_signal(uint32_t number, int signo);
void job_kill(uint32_t number, uint32_t grace_ms);

/* A supervisor has sent something; @data is that of the epoll event. */
void job_heard(void *data);

/* A child of the agent has been reaped. */
void jobs_reaped(pid_t pid, int status);

/* Do what is due for kills. Milliseconds until the next step is due, or -1. */
int jobs_tick(void);

/* Forget all jobs, after every process has been killed. */
void jobs_forget(void);
