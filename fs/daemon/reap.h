/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * modalpool reap: end what an earlier run left at a mountpoint, without
 * mounting, on a machine that will not mount there again. Its leases and what
 * they printed are forgotten.
 */

#include "fs/daemon/options.h"

/* Says on standard output what it ends, or with --dry-run what it would; the exit status. Blocks until that is over. */
int reap(const struct config *config, const struct options *options);
