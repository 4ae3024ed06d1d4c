/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The processes that jobs have left, of whatever job: all that are below the helper, but for the caller, which is a
 * child of it, and for reapers and guardians, which end by themselves when what is below them has.
 *
 * Where the sandbox is the helper's, also the others that are younger than it: an old daemon of the sandbox may have
 * started them for a job. Those of `attach` stay, and what is above them and above the helper.
 */

#include <stdbool.h>
#include <stddef.h>

#include "pool/helper/agent/processes.h"

/*
 * Kills all and waits until they are gone. @reapers: see reapers_orphans(). 0, or -errno and in @names who is left;
 * -ETIMEDOUT when some do not end.
 */
int leftovers_kill(const struct family *reapers, bool sandbox, char *names, size_t size);
