/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The kernel's requests: ops.c decodes each and finds its file. All but reads
 * are answered in the same turn; a read may wait (request.h, handle.h).
 */

#include "fs/fs.h"
#include "fs/handle.h"

/* The user data of the session is struct fs. */
extern const struct fuse_lowlevel_ops fs_ops;
