/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The start of a job's shell, in the job's reaper: strings, workdir, user, and then a process that becomes the shell.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/helper/agent/accounts.h"
#include "pool/helper/protocol.h"

/* What the helper gives to a job's reaper. The descriptors are all closed by exec. */
struct start_spec {
        uint8_t job[HELPER_JOB_SIZE];
        uint8_t flags;
        uint32_t n_env, spec_len;
        int64_t timeout_us, grace_us;
        int strings;      /* a file of them, see protocol.h */
        int streams[3];   /* that are to be 0, 1 and 2 */
        const char *dir;  /* the helper's directory, for a command that is too long for an argument */
        const char *root; /* what the workdir, and a cwd below it, are in; or "" */
        int oom_score;    /* of the environment's processes */
};

#define START_MADE 5 /* three variables of a user, and two paths with a root */

struct start {
        const struct start_spec *spec;
        const char *shell, *workdir, *cwd, *user, *command; /* paths with the root */
        char *strings;           /* what these are in, or NULL */
        char **given, **env;     /* variables of the request, and those of the shell */
        char *made[START_MADE];  /* more memory */
        size_t n_made;
        struct account account; /* where there is a user */
        int cwd_fd;
        char script[4200]; /* path of the file with the command, or "" */
        char line[4300];   /* what reads it */
};

/* Why a job did not start. */
struct start_failure {
        enum helper_end how;
        int value; /* errno */
        char text[HELPER_TEXT_MAX + 1];
};

/* Makes all ready. False: @why says what is not there. */
bool start_prepare(struct start *s, const struct start_spec *spec, struct start_failure *why);

/*
 * The process of the shell, or -1 and @why. @on_start is called in that process, with the number it has, before it
 * becomes the shell: it shares the memory of the caller.
 */
pid_t start_shell(struct start *s, void (*on_start)(void *data, pid_t pid), void *data, struct start_failure *why);

/* The shell runs, or will not: frees all but the file of its command. */
void start_release(struct start *s);

/* The shell has ended: removes the file of its command. */
void start_finish(struct start *s);
