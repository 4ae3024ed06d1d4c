/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A dry run: sandboxes that exist in name alone. They end with the daemon, and never by themselves.
 *
 * A job does not run. It reads its input to the end, takes dry_exec seconds, and prints what would have been run:
 *
 *   cwd: DIRECTORY
 *   shell: PROGRAM         if one is set
 *   env: KEY=VALUE         for each variable that is set for the job
 *   input: N bytes
 *                          an empty line
 *   the command            byte for byte
 *
 * Its exit code is 0. A signal ends it as it ends a program that does not handle signals: it prints nothing, and its exit
 * code is 128+N.
 */

#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/base/option.h"

struct dry_options;

extern const struct option_table dry_options;

/* The client: there is nothing to connect to. 0 or -ENOMEM. */
int dry_client_new(struct backend_client **out, uv_loop_t *loop);

/* @client: made by dry_client_new(). 0 or -ENOMEM. */
int dry_new(struct backend **out, struct backend_client *client, const struct dry_options *options);
