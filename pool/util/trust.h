/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Directories that nobody but root and the caller's user can have put there.
 *
 * A path is walked part by part from the root. Each part, a symbolic link among them, must belong to root or to the
 * caller, and no other user may be able to rename what lies in it: it is not writable for others, or it is sticky, as
 * /var/tmp is. So what the path leads to stays the same, and may be opened by its name later.
 */

#include "pool/util/result.h"

/*
 * Open the directory at the absolute @path; missing parts are made with mode 0700. The last part must be the
 * caller's own and closed to all others. *real, to be freed, is the path without links. The descriptor, or -errno with
 * @why saying which part is wrong and how.
 */
int open_trusted(const char *path, char **real, struct result *why);
