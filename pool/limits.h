/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time. */

#include <stdint.h>

#include "pool/util/clock.h"

#define NAME_LEN_MAX 200                            /* bytes of a lease's name */
#define LEASES_MAX 1000000                          /* the most that max_leases= takes */
#define ENVIRONMENTS_MAX 100000                     /* the most that max= takes */
#define COMMAND_SIZE_MAX (UINT64_C(16) << 20)       /* bytes of one command */
#define INPUT_SIZE_MAX (UINT64_C(1) << 30)          /* bytes of standard input for one job */
#define SETTING_SIZE_MAX (64 << 10)                 /* bytes of cwd or of env */
#define QUEUE_MAX 64                                /* jobs that wait in one lease */
#define JOB_NUMBER_MAX ((UINT32_C(1) << 24) - 1)    /* jobs of one lease: what a node number holds */
#define LEASE_SERIAL_MAX ((UINT64_C(1) << 34) - 1)  /* leases of one mount: what a node number holds */
#define EVENTS_MAX 4096                             /* lines kept in .pool/events */
#define EVENT_LEN_MAX 2048                          /* bytes of one */
#define TEXT_FILE_MAX (UINT64_C(64) << 20)          /* bytes of a rendered file */
#define CREATES_AT_ONCE 16                          /* environments in creation at one time */

#define CLEAN_TIMEOUT_US (60 * USEC_PER_SEC)        /* then the environment is destroyed instead */
#define START_TIMEOUT_US (120 * USEC_PER_SEC)      /* a job handed over that has not begun by then is lost with its environment */
#define KILL_TIMEOUT_US (10 * USEC_PER_SEC)         /* a killed job that has not ended by then is lost with its environment */
#define BACKOFF_MIN_US (USEC_PER_SEC / 2)           /* between failed creates, doubling … */
#define BACKOFF_MAX_US (30 * USEC_PER_SEC)          /* … up to this */
