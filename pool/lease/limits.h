/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time: leases and their jobs. */

#include <stdint.h>

#include "pool/util/clock.h"

#define NAME_LEN_MAX 200                            /* bytes of a lease's name */
#define COMMAND_SIZE_MAX (UINT64_C(16) << 20)       /* bytes of one command */
#define INPUT_SIZE_MAX (UINT64_C(1) << 30)          /* bytes of standard input for one job */
#define LIVE_INPUT_MAX (UINT64_C(1) << 20)          /* bytes of live input that a job's sandbox does not have yet */
#define AUDIT_COMMAND_MAX 4096                      /* bytes of a command in the audit file */
#define USER_NAME_MAX 255                           /* bytes of a user's name */
#define QUEUE_MAX 64                                /* jobs that wait in one lease, and drafts with a name */
#define JOB_NAME_MAX 64                             /* bytes of a job's name */
#define NAMED_MAX 4096                              /* jobs with a name in one lease, whatever their state */

#define START_TIMEOUT_US (120 * USEC_PER_SEC)      /* a job handed over that has not begun by then is lost with its environment */
#define KILL_TIMEOUT_US (60 * USEC_PER_SEC)         /* one that was killed has ended by then, whatever is left of it: over Modal a kill waits its turn */
#define EXEC_POLL_TIMEOUT_US (60 * USEC_PER_SEC)    /* one whose time is up, and whose backend does not say whether it runs, is lost as well */
#define OUTPUT_TIMEOUT_US (10 * USEC_PER_SEC)       /* a job that ended in time and still has output then is killed */
#define EXEC_POLL_AGAIN_US (USEC_PER_SEC / 10)      /* before that is asked again, when it could not be */
#define STARVED_AGAIN_US (USEC_PER_SEC / 10)        /* before jobs that this machine had no descriptors for are tried again … */
#define STARVED_WARN_EVERY_US (60 * USEC_PER_SEC)   /* between words about it in the log */
#define STARVED_TRIES 8                             /* … until so many in a row still have none */
