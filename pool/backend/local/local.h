/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sandboxes on this machine, by bubblewrap: for development and tests, not a
 * security boundary.
 *
 * Each is one bwrap process with a PID namespace of its own, whose process 1
 * is the helper (pool/helper/agent/main.c). It lives until it is destroyed; its
 * files are in memory and go with it. With isolate=none a sandbox is only the
 * helper, as an ordinary process, and a directory below the state directory.
 *
 * It runs nothing by itself: it opens streams to the helper (sandbox_attach),
 * over which pool/helper/helper.h runs jobs and cleans.
 */

#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/base/option.h"

/* The client: where the programs are that a sandbox needs. @helper: that one's path. 0 or -ENOMEM. */
int local_client_new(struct backend_client **out, uv_loop_t *loop, const char *helper);

struct local_options;

extern const struct option_table local_options;

/*
 * @client: made by local_client_new(). @setup: the base is made in each sandbox and its HOME; the directory is for
 * isolate=none, and is where sandboxes of an earlier run come back to. @leaves_for_ever: those that are left on purpose wait
 * without limit. 0 or -ENOMEM.
 */
int local_new(struct backend **out, struct backend_client *client, const struct local_options *options,
              const struct backend_setup *setup, bool leaves_for_ever);
