/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Removing trees of any size and depth, in a process of its own. No link below the path is followed. Some paths are
 * kept: where something is mounted, and what is the helper's own; so are the directories above them.
 */

#include <stdbool.h>
#include <stddef.h>

struct removal {
        const char *const *kept; /* paths without links: what is there is neither removed nor entered */
        size_t n_kept;
        const char *own; /* one more, of which nothing is removed, not even when it is to be emptied itself */
        char what[4096]; /* what could not be removed, after a failure; else of no meaning */
};

/* Remove @path, whatever it is. 0, also if it is not there, or -errno. */
int remove_path(struct removal *r, const char *path);

/* Remove @name in an open directory, whatever it is. 0, also if it is not there, or -errno. */
int remove_at(struct removal *r, int dir, const char *name);

/* Remove what is in a directory. What is there in place of a directory is removed itself. 0 or -errno. */
int remove_inside(struct removal *r, const char *path);
