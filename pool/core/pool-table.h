/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The table of the pools that are open: how they are found, made and removed (pools.h), and what of that the files of this
 * folder need besides.
 */

#include "pool/core/pools.h"

/* Whether one of this name can be made now. 0 or -errno, as pools_make(). */
int pools_check_new(const struct pools *all, const char *name);

/* Make it, with options of its own as in the journal: a JSON object of texts. */
int pools_make_with(struct pools *all, const char *name, uid_t uid, gid_t gid, const char *options,
                    struct mount_pool **out);

/* Put one into the table, and take it out. */
void pools_add(struct mount_pool *p);
void pools_forget(struct mount_pool *p);

/* Tell the log and the events of the mount, and its own. */
void pools_announce(struct mount_pool *p, const char *what);
