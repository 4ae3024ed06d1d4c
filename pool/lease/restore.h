/* SPDX-License-Identifier: MIT */
#pragma once

/* After a restart: the leases of an earlier run, with their jobs. */

#include "pool/lease/table.h"

/*
 * After a restart, behind pool_restore(): the leases and jobs in the journal. Files of jobs that are not in it are
 * removed. 0 or -errno.
 */
int leases_restore(struct leases *t);
