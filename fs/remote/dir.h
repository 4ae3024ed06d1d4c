/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A directory that is being read. It asks for several parts of its listing at once, and keeps what came until it is
 * closed, or until there is much of it: then what the kernel has read is dropped, and who goes back makes it begin anew.
 */

#include "fs/remote/tree.h"

#define LIST_AHEAD 32                 /* parts that are asked for at once, */
#define LIST_AHEAD_BYTES (2 << 20)    /* as long as the kernel has not read so many bytes of what is there */
#define LIST_KEPT_BYTES (4 << 20)     /* of what it has read */

/* The environment is there: those that wait for it go on. */
void remote_dirs_retry(struct remote_tree *t);

void remote_dirs_end(struct remote_tree *t, int error);
void remote_dirs_free(struct remote_tree *t);
