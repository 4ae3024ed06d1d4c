/* SPDX-License-Identifier: MIT */
#pragma once

/* After a restart: the leases of an earlier run, with their jobs. */

#include "pool/lease/table.h"

/*
 * After a restart, behind pools_restore_environments(): the leases and jobs in the journal, each into the table that @find
 * gives for the serial of its pool; @own is the mount's own. Leases of a pool that is not there (NULL) are left out. Files
 * of jobs that are not in the journal are removed. 0 or -errno.
 */
int leases_restore(struct leases *own, struct leases *(*find)(void *data, uint64_t pool), void *data);
