/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Connections to what is inside a lease's environment, for whom the lease is. They end with the environment: a release, its
 * clean-up and its death break them (pool/backend/connection.h).
 */

#include "pool/backend/connection.h"
#include "pool/lease/lease.h"

/*
 * See sandbox_connect(); workdir is set here. -EAGAIN: not yet; lease_file_watches() says when to try again. -EMFILE: the
 * lease has too many. -EOPNOTSUPP: its environment has no helper. lease_error() has a sentence for the last two. -ENODEV: the
 * lease is lost or failed. -ESTALE: it is released.
 */
int lease_connect(struct lease *l, const struct connection_spec *spec, struct connection *c);

/* Once for each that was opened. */
void lease_disconnect(struct lease *l, struct connection *c);
