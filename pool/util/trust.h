/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Directories that only root and the caller's user can have put in place.
 *
 * The path is checked part by part from the root. Each part, including symbolic links, must belong to root or to the
 * caller. No other user may be able to rename what is in it: it is not writable for others, or it is sticky, as
 * /var/tmp is. So the path always leads to the same directory, and may be opened by name later.
 */

#include "pool/util/result.h"

/*
 * Open the directory at the absolute @path; missing parts are made with mode 0700. The last part must belong to the
 * caller and be closed to all others. *real is the path without links, which the caller frees. Returns the descriptor,
 * or -errno with @why, which names the part that is wrong and the reason.
 */
int open_trusted(const char *path, char **real, struct result *why);
