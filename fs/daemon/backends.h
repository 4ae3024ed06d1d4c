/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The backends: their options, and the backend that the configuration asks for, with the faults that it asks for. No
 * other file of the program knows which backends there are.
 */

#include <stdbool.h>
#include <uv.h>

#include "fs/daemon/state.h"
#include "pool/backend/backend.h"
#include "pool/base/config.h"

/* For config_init(): the options of every backend, and the one that chooses among them. */
extern const struct option_table *const provider_tables[];

/* The backend that is asked for, and whether it works with credentials that nobody else may see. */
const char *provider_name(const struct config *config);
bool provider_has_credentials(const struct config *config);

/* The client of it. @loop is borrowed and outlives it. -errno with @why filled in. */
int provider_connect(struct backend_client **out, uv_loop_t *loop, const struct config *config, struct result *why);

/*
 * The backend of a pool, whose sandboxes begin as @snapshot is; "": as the options say. @client, @loop, @config and
 * @state are borrowed and outlive it. @pool_id marks sandboxes as this pool's at the provider, if they can outlive the
 * daemon. -errno with @why filled in.
 */
int provider_open(struct backend **out, struct backend_client *client, uv_loop_t *loop, const struct config *config,
                  const char *snapshot, const struct state *state, const char *pool_id, const char *mountpoint,
                  struct result *why);
