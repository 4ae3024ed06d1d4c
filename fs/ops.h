/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The kernel's requests: each is decoded here, finds its file, and is answered
 * exactly once: in the same turn, but for reads, which may wait (handle.h).
 */

#include "fs/fs.h"
#include "fs/handle.h"

/* The user data of the session is struct fs. */
extern const struct fuse_lowlevel_ops fs_ops;
