/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Between local.c and the agent, the first process of each local environment:
 * one SOCK_SEQPACKET message a request or reply, on the agent's descriptor
 * AGENT_FD. Both ends are built from one tree, so structs go over as they are.
 *
 * When the daemon's end closes, the agent kills everything in the environment
 * and exits: that is how an environment is destroyed, also when the daemon is
 * killed.
 */

#include <stdint.h>

#define AGENT_FD 3
#define AGENT_TEXT_MAX 4600 /* bytes of a path or an error, with the final NUL */

enum agent_request_type {
        /*
         * Run a job. Four descriptors come along: the strings, stdin, stdout, stderr. The strings are a
         * sealed file: shell, workdir, cwd, n_env times KEY=VALUE, the command, each with a final NUL,
         * as in struct exec_spec; workdir and cwd are paths of the agent.
         */
        AGENT_EXEC,
        /* Send a signal to all processes of a job. */
        AGENT_SIGNAL,
        /* Does a job still run? */
        AGENT_POLL,
        /* End all processes of a job: TERM, and KILL after grace_ms to what is left; KILL at once with 0. */
        AGENT_KILL,
        /* Kill everything, remove the workdir in text, empty TMPDIR, and look whether both can be written. */
        AGENT_CLEAN,
};

struct agent_request {
        uint32_t type;
        uint32_t job;   /* of the daemon's numbering, never reused in one environment */
        uint32_t fresh; /* exec: make the workdir and empty it first */
        uint32_t n_env;
        int32_t signo;
        uint32_t grace_ms;
        char text[AGENT_TEXT_MAX]; /* sent as far as it is used */
};

enum agent_reply_type {
        AGENT_HELLO,   /* ready for requests */
        AGENT_STARTED, /* the job's shell runs */
        AGENT_ENDED,   /* it ended with code; after AGENT_KILL all its processes did, or text says which did not */
        AGENT_POLLED,  /* code is 1 while the job runs, else 0: an AGENT_ENDED went before */
        AGENT_NO_CWD,  /* its cwd, in text, is not a directory: it ended like this; AGENT_STARTED went before */
        AGENT_FAILED,  /* the job did not start, text says why */
        AGENT_CLEANED, /* text is empty, or says what went wrong */
};

struct agent_reply {
        uint32_t type;
        uint32_t job;
        int32_t code; /* exit code, 128+N for signal N */
        char text[512];
};
