/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * After a restart: take back the environments of an earlier run that are in
 * the journal.
 */

#include "pool/environment/environment.h"

/*
 * Ask each environment in the journal whether it is alive, and terminate those that were ending. An environment that
 * cannot be taken back is logged and dropped. On -errno none is taken back.
 *
 * @find gives the set of a pool by its serial, which is never NULL for 0. The environments of a pool that is gone (NULL)
 * are terminated, in the set of the mount's own.
 */
int environments_restore(struct journal *j, struct environments *(*find)(void *data, uint64_t pool), void *data);
