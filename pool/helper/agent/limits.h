/* SPDX-License-Identifier: MIT */
#pragma once

/* The maxima of the helper itself. Its memory is fixed: it allocates none but for the buffers of channels. */

#include "pool/helper/limits.h"
#include "pool/util/clock.h"

#define PACKET_SIZE 4096           /* bytes of the largest packet of a pipe: PIPE_BUF */
#define OUTPUT_CHUNK (2 * PACKET_SIZE + 64)
#define OUTPUT_CHUNKS_SHARED 64    /* besides one for each job */
#define OUTPUT_CHUNKS_EACH 63
#define INPUT_CHUNK HELPER_INPUT_FIRST
#define INPUT_CHUNKS_SHARED 64     /* besides one for each job */
#define INPUT_CHUNKS_EACH 32

#define CARRIERS_MAX 6             /* the one in use, and those that have not said HELLO */
#define HELLO_TIME_US (10 * USEC_PER_SEC)
#define CARRIER_SEND_BUFFER (64 << 10) /* bytes in the kernel, ahead of the next frame */
#define BACKGROUND_MAX 256         /* reapers of forgotten jobs whose processes go on */
#define DAEMON_RETRY_US (200 * USEC_PER_MSEC) /* between looks for the next daemon */
#define OUTPUT_GRACE_US (100 * USEC_PER_MSEC) /* for output on its way when the shell has ended */
#define KILL_ROUND_MS 10           /* between looks for what a KILL has left … */
#define KILL_TIME_US (5 * USEC_PER_SEC) /* … until that is told instead */
#define SHUTDOWN_TIME_US (3 * USEC_PER_SEC) /* for all processes to end; a daemon waits 5 s, then it kills the helper */
#define LEFTOVERS_TIME_US (10 * USEC_PER_SEC)   /* for all that jobs have left to end by KILL … */
#define LEFTOVERS_LATE_US (2 * USEC_PER_SEC)     /* … and for reapers to end by themselves */
#define CLEANER_CPU_SECS 30        /* processor time of a clean-up, and of a note: some 600,000 entries under gVisor */
#define FORK_ROUNDS 100            /* looks without a pause, for what was forked during the last */
#define ARGUMENT_MAX 120000        /* bytes; Linux takes 128 KiB in one argument (MAX_ARG_STRLEN) */
#define ACCOUNT_FILE_MAX (1 << 20) /* bytes of /etc/passwd and of /etc/group that are read */
#define ACCOUNT_GROUPS_MAX 64      /* groups of a user */
#define ACCOUNT_TEXT_MAX 256       /* bytes of a name or a home directory, with a final NUL */
#define CHANNEL_OPEN_US (30 * USEC_PER_SEC)  /* for a connection, or for a watch to begin */
#define CHANNEL_FLUSH_US (30 * USEC_PER_SEC) /* for what was sent before a CLOSE to be taken */
#define WATCHERS_MAX 64
#define WATCHER_DIRECTORIES_MAX 65536        /* of one watch */
#define WATCHER_PATH_MAX 4096                /* bytes of a path, with a final NUL */
#define WATCHER_OUTPUT_MAX (1 << 20)         /* bytes of lines that wait, until it takes no more from the kernel */
#define WATCHER_RENAME_MS 20                 /* for the other half of a rename */
