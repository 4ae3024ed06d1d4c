/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Files that are opened inside before the kernel asks for it, with their contents, so that a round trip serves many.
 *
 *   two files are opened for reading, soon after each other, in directories       those behind it in its directory are
 *   that have just been read                                                      opened, then those of directories
 *                                                                                 that are read ahead
 *
 *   ASKED → READY → taken      by remote_open(), which needs no call then
 *                 → dropped    it is old, something was changed, or there are too many
 *
 * Only small files with one name: their contents come with the answer. What is ready is true for FRESH_US as everything
 * else. All of it is bounded: READY_MAX files of a tree, HELPER_DATA_MAX bytes each.
 */

#include "fs/remote/node.h"

#define READY_MAX 128
#define READY_ASKS_MAX 64 /* of these ASKED */

/* Drops all. */
void remote_ready_end(struct remote_tree *t);
