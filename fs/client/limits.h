/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow: what `run`, `shell` and `forward` keep. */

#define STREAM_BUFFER_SIZE (128 << 10) /* bytes of one stream that are on their way */
#define COMMAND_SIZE_MAX (16 << 20)    /* bytes of the command, as the mount takes them */
#define ENV_SIZE_MAX (64 << 10)        /* bytes of the variables, as the mount takes them */
#define TEXT_SIZE_MAX (64 << 10)       /* bytes that are read of a small file of the mount */
#define FORWARDED_MAX 256              /* connections at one time */
#define PATH_SIZE_MAX 4096             /* bytes of the path of a file of the lease, with a final NUL */
