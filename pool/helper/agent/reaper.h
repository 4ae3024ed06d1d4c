/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A reaper: one process for each job, between the helper and the job's shell.
 *
 * It is the subreaper of its job alone, so whatever the job's processes do, they stay below it. When none is left it is
 * ready for another job, until the helper closes their socket. It waits for the shell, keeps the job's time limit, and sends signals. It goes on when the job has ended and
 * left processes in the background, and then reads what they print, lest they stop or get SIGPIPE.
 *
 * A job that is root can kill its reaper. Then its processes become children of the helper, which puts a guardian in
 * its place. That does the same, but the helper waits for the shell, and processes of several such jobs are not told
 * apart.
 *
 * A reaper and the helper speak over a socket of packets, one struct each. When it closes without LEAVE during a job, the
 * helper is gone, and the reaper kills the job.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/helper/agent/start.h"

enum reaper_order_type {
        REAPER_SIGNAL,
        REAPER_KILL,
        REAPER_SHELL_ENDED, /* to a guardian */
        REAPER_DRAIN,       /* the helper reads the streams no more */
        REAPER_LEAVE,       /* no order follows */
};

struct reaper_order {
        enum reaper_order_type type;
        int signo;
        int64_t grace_us; /* KILL: between TERM and KILL; 0 for KILL at once, which also cuts an earlier grace short */
};

enum reaper_report_type {
        REAPER_STARTING, /* this process is to become the shell, which it does after this report */
        REAPER_STARTED,  /* it has become the shell */
        REAPER_FAILED,   /* it did not start, failure says why */
        REAPER_TIMEOUT,  /* its time is over, and it is being killed */
        REAPER_ENDED,    /* the shell has ended with status, after ran_us */
        REAPER_READY,    /* it has no process left, which an earlier report of the job did not say */
        REAPER_LEFT,     /* some processes do not end by KILL, failure.text names them */
};

struct reaper_report {
        enum reaper_report_type type;
        pid_t shell;
        int status; /* as of wait() */
        int64_t at_us;  /* STARTING */
        int64_t ran_us; /* ENDED */
        uint8_t ready;  /* FAILED, ENDED, READY: nothing is left of the job, and another one may come */
        struct start_failure failure;
};

struct reaper {
        const struct start_spec *spec; /* of a guardian */
        int channel;  /* to the helper */
        int reads[2]; /* reading ends of the job's streams, or -1 */
        int proc;     /* /proc, or -1 */
};

/* Become the reaper of the jobs that come over the channel, one after the other. To be called in a child of the helper. */
_Noreturn void reaper_run(int channel, int proc);

/* Gives a reaper a job. @reads: as in struct reaper. 0, or -errno when the reaper is gone. */
int reaper_give(int channel, const struct start_spec *spec, const int reads[2]);

/* Become the guardian of a job whose reaper died. @deadline_us: when its time is over; @family: see processes.h. */
struct family;
_Noreturn void guardian_run(const struct reaper *r, const struct family *family, int64_t deadline_us);
