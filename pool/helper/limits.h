/* SPDX-License-Identifier: MIT */
#pragma once

/* The maxima of the protocol between the daemon and the helper. Both ends are built with the same. */

#define HELPER_JOBS_MAX 32            /* jobs of one helper that are not forgotten */
#define HELPER_DATA_MAX (16 << 10)    /* bytes of data in one frame */
#define HELPER_SPEC_MAX (21 << 20)    /* bytes of a job's strings: command 16 MiB, variables 4 MiB, names and paths */
#define HELPER_ENV_MAX 65536          /* variables of a job */
#define HELPER_TEXT_MAX 256           /* bytes of a reason, without a final NUL */
#define HELPER_POOL_MAX 64            /* bytes of the name of a pool */
#define HELPER_INPUT_FIRST (8 << 10)  /* bytes of input that may be sent before the helper has said how many it takes */
#define HELPER_WINDOW_MAX (512 << 10) /* bytes of a job's output that may be under way without an acknowledgement */
#define HELPER_REQUESTS_MAX 64        /* requests without a reply */
#define HELPER_REPORT_MAX 2048        /* bytes of text in the answer to a request */
#define HELPER_CALLS_MAX 128          /* calls about files that have no answer */
#define HELPER_PATH_MAX 4000          /* bytes of a directory, or of a name in it, with the final NUL */
#define HELPER_WRITE_MAX (12 << 10)   /* bytes that one call writes */
#define HELPER_US_MAX (INT64_C(1) << 50) /* of a time limit, in microseconds */
#define HELPER_CHANNELS_MAX 256             /* channels of one helper that are not closed */
#define HELPER_CHANNEL_WINDOW (256 << 10)   /* bytes of a channel that may be under way, in each direction */
#define HELPER_CHANNEL_WINDOW_MIN (32 << 10) /* of each, when there are many */
#define HELPER_CHANNELS_WIDE 16             /* channels that get the larger window */
#define HELPER_ERRNO_MAX 4095               /* of an error */
