/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The protocol between the daemon and the agent, which is the first process of
 * each local environment. Each request and each reply is one SOCK_SEQPACKET
 * message on the agent's descriptor AGENT_FD. Both ends are built from the same
 * source, so structs are sent as they are.
 *
 * When the daemon's end closes, the agent kills everything in the environment
 * and exits. That is how an environment is destroyed, even if the daemon was
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
        /* Ask whether a job still runs. */
        AGENT_POLL,
        /* End all processes of a job: TERM, and after grace_ms KILL to those that are left; with 0 KILL at once. */
        AGENT_KILL,
        /* Kill everything, remove the workdir in text, empty TMPDIR, and check that both can be written. */
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
        AGENT_ENDED,   /* it ended with code; after AGENT_KILL text may name processes that did not end */
        AGENT_POLLED,  /* code is 1 while the job runs; 0 comes after AGENT_ENDED */
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
