/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Directories that are read before the kernel asks for them, so that a round trip serves many names.
 *
 *   two names of one directory are asked for, soon after each other      it is read: the next name is there
 *   two directories are opened whose parents have just been read         all below are read, as they become known, those
 *                                                                         first that a walk comes to first
 *
 * What was read so is true for FRESH_US as everything else. It is given to the kernel when that opens the directory, or
 * dropped when it is old. All of it is bounded: AHEADS_MAX directories of a tree, LIST_UNASKED_BYTES each.
 */

#include <stdbool.h>

#include "fs/remote/node.h"

#define AHEADS_MAX 256
#define WALK_MAX 4096 /* directories that wait to be read */

struct remote_dir;

/* A name of a directory is asked for: its node, as it was read ahead; *@absent: there is no such name. Or it is read now. */
struct remote_node *remote_ahead_lookup(struct remote_node *dir, const char *name, bool *absent);

/* A part of a listing has come: the tree's event. */
void remote_ahead_go_on(struct remote_tree *t, struct remote_dir *d);

/* Drops all. */
void remote_ahead_end(struct remote_tree *t);
