/* SPDX-License-Identifier: MIT */
#pragma once

/* The backend that the configuration asks for, with the faults that it asks for. */

#include <uv.h>

#include "fs/daemon/state.h"
#include "pool/backend/backend.h"
#include "pool/base/config.h"

/* The client of it. @loop is borrowed and outlives it. -errno with @why filled in. */
int provider_connect(struct backend_client **out, uv_loop_t *loop, const struct config *config, struct result *why);

/*
 * The backend of a pool. @client, @loop, @config and @state are borrowed and outlive it. @pool_id marks sandboxes as this
 * pool's at the provider, if they can outlive the daemon. -errno with @why filled in.
 */
int provider_open(struct backend **out, struct backend_client *client, uv_loop_t *loop, const struct config *config,
                  const struct state *state, const char *pool_id, const char *mountpoint, struct result *why);
