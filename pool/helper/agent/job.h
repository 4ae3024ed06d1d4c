/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One job of the helper: its pipes or terminal, its reaper, what it printed and what it has to read. Its states stand
 * in protocol.h; the table of jobs in jobs.c owns it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/helper/agent/jobs.h"
#include "pool/helper/agent/loop.h"
#include "pool/helper/agent/reaper.h"
#include "pool/helper/agent/store.h"
#include "pool/helper/protocol.h"

/* The helper's end of a stream of output. See output.c for how the order of two is kept. */
struct stream {
        struct loop_source source;
        int fd;            /* -1: closed */
        bool ready;        /* there may be something to read … */
        uint64_t ready_at; /* … since this event */
        bool hung_up;      /* nobody writes any more */
        bool bulk;         /* there may be more than one packet */
        bool fixed;        /* its size cannot be changed */
        unsigned run;      /* packets … */
        size_t run_bytes;  /* … and bytes, since the other stream had one */
};

struct job {
        bool used;
        enum helper_job_state state;
        uint8_t id[HELPER_JOB_SIZE], flags;
        uint16_t rows, columns;
        uint32_t n_env, spec_len, spec_have, order, window;
        int64_t timeout_us, grace_us;

        int strings;    /* the file of them, until the shell starts; -1 */
        int ends[3];    /* what are to be its 0, 1 and 2, likewise */
        int input_fd;   /* writing end of standard input, or the terminal; -1 */
        bool input_waits; /* for the job to read */
        uint8_t last_input;
        struct loop_source input_source;
        struct stream streams[2]; /* a terminal is the first */
        struct output output;
        struct input input;

        int channel; /* to its reaper; -1 */
        struct loop_source channel_source;
        unsigned slot;      /* of its reaper */
        pid_t shell;        /* 0: not started, or it has ended */
        bool given_again;   /* to another reaper, before it started */
        bool guarded;       /* its reaper was killed, a guardian is in its place */
        bool killed, left;  /* it ends when all its processes have; or some of them do not end */
        bool dying;         /* it was killed without grace */
        bool timed_out;
        int64_t started_us, ran_us;
        int64_t drained_us; /* DRAINING: until when output is waited for */
        int64_t due_us;     /* when a reaper that does nothing is replaced */

        struct start_failure end; /* how it ended */
        bool tell, end_sent;      /* JOB is to be sent; ENDED was sent by this carrier */
};

/* reapers.c, job.c, output.c and terminal.c: see there. */
int helper_job_init(const struct job_context *context);

/* A job that START is about. It may end at once. */
void helper_job_new(struct job *j, const struct frame *start);

/* More of its strings. False for a gap, or more than there are to be. */
bool helper_job_spec(struct job *j, uint64_t offset, const uint8_t *data, size_t len);

/* Unless it has started, or its strings are not complete. */
void helper_job_start(struct job *j);

void helper_job_kill(struct job *j, int64_t grace_us);
/* It was killed at once, and some of its processes may still be there, which is not known to last. */
bool helper_job_is_dying(const struct job *j);
void helper_job_signal(struct job *j, int signo);
void helper_job_resize(struct job *j, uint16_t rows, uint16_t columns);
void helper_job_forget(struct job *j);

/* There are new bytes of input; there is room for output again. */
void helper_job_on_input(struct job *j);
void helper_job_on_room(struct job *j);

int64_t helper_job_tick(struct job *j, int64_t now);
void helper_job_reaped(struct job *j, pid_t pid, int status);
