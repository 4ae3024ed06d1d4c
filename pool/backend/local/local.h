/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sandboxes on this machine, by bubblewrap: for development and tests, not a
 * security boundary.
 *
 * Each is one bwrap process with a PID namespace of its own, whose process 1
 * is modalpool-agent (agent.c). It lives until it is destroyed; its files are
 * in memory and go with it. With isolate=none a sandbox is only the agent, as
 * an ordinary process, and a directory below the state directory.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "pool/backend/backend.h"

/* The client: where the programs are that a sandbox needs. 0 or -ENOMEM. */
int local_client_new(struct backend_client **out, uv_loop_t *loop);

struct local_options {
        bool isolate;
        bool network;
        uint64_t size;   /* bytes of writable space of one sandbox */
        const char *base; /* the directory of the workdirs; made in each sandbox, and its HOME */
        const char *shell; /* must exist in each sandbox; "": bash or sh */
        const char *dir;  /* for isolate=none: absolute path of a directory */
};

/* @client: made by local_client_new(). The strings of @options are copied. 0 or -ENOMEM. */
int local_new(struct backend **out, struct backend_client *client, const struct local_options *options);
