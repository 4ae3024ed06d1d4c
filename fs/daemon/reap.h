/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * modalpool reap: end the environments that an earlier run left at a
 * mountpoint, without mounting, and delete its leases and their output.
 */

#include "fs/daemon/options.h"

/*
 * Print on standard output what is ended, or with --dry-run what would be. Returns the exit status. Blocks until done.
 */
int reap(struct config *config, const struct options *options);
