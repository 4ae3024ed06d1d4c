/* SPDX-License-Identifier: MIT */
#pragma once

/* A channel of the helper as a connection of a backend (pool/backend/connection.h). The carrier is in use for it. */

#include "pool/helper/sandbox.h"

/* The call of struct backend_ops. */
int helper_connect(struct sandbox *sandbox, const struct connection_spec *spec, struct connection *c);

/* The sandbox is cleaned, or is gone: all are broken with @error, an errno. */
void helper_connections_end(struct helper_sandbox *s, int error);
