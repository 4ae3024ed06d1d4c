/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sandboxes on this machine, by bubblewrap: for development and tests, not a
 * security boundary.
 *
 * Each is one bwrap process with a PID namespace of its own, whose process 1
 * is modalpool-agent (local-agent.c). It lives until it is destroyed; its
 * files are in memory and go with it. With isolate=none it is the agent alone,
 * as an ordinary process, and a directory below the state directory.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "pool/backend/backend.h"

struct local_options {
        bool isolate;
        bool network;
        uint64_t size;   /* bytes of writable space of one sandbox */
        const char *base; /* where workdirs are: made in each sandbox, and its HOME */
        const char *shell; /* has to be in each sandbox; "": any */
        const char *dir;  /* for isolate=none: an absolute path, a directory */
};

/* The strings of @options are copied. 0 or -ENOMEM. */
int local_new(struct backend **out, uv_loop_t *loop, const struct local_options *options);
