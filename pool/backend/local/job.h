/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The jobs of a local environment, as its agent runs them.
 *
 * Each job has a supervisor: a child of the agent, and a subreaper (prctl(2)). It starts the shell, and whatever the
 * job's processes leave behind comes back to it, so that the processes below a supervisor are exactly those of its
 * job, whatever they did to their environment, title, session or parent. It lives as long as they do, and so keeps
 * those of a job that has ended apart from those of the next.
 *
 *   running → ended, and told         the shell ended; the supervisor stays for what runs in the background
 *   running → killed → ended, and told   … once all its processes have ended, or cannot be ended
 *
 * A job that kills its supervisor goes on. Its orphans come to the agent; they count as those of every job that did
 * so.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/backend/local/protocol.h"

/* What to start. Everything is borrowed. */
struct job_spec {
        uint32_t number;
        const char *shell, *command;
        const char *run_dir; /* where a script may be put; for the job's life */
        int cwd;
        int fds[3];
        const char *const *env;
};

/* Once: where the agent's loop listens, and how it says something to the daemon. */
void jobs_init(int epoll, void (*reply)(enum agent_reply_type type, uint32_t job, int code, const char *text));

/*
 * 0, or -errno: the shell could not be started, or, where @what is set, that failed before. The end of the job is told
 * by a reply.
 */
int job_start(const struct job_spec *spec, const char **what);

/* Whether its shell still runs; an end that is known by then is told before the answer. */
bool job_runs(uint32_t number);

/* A job that has ended is left alone by these. */
void job_signal(uint32_t number, int signo);
void job_kill(uint32_t number, uint32_t grace_ms);

/* A supervisor, which @data of the epoll event names, has something to say. */
void job_heard(void *data);

/* A child of the agent has been reaped. */
void jobs_reaped(pid_t pid, int status);

/* Do what is due of the kills. Milliseconds until the next thing is, or -1. */
int jobs_tick(void);

/* Forget all of them, after every process has been killed. */
void jobs_forget(void);
