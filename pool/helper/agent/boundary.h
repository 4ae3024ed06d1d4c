/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How far a sandbox is watched: the root, and what else is mounted of the kinds that are the sandbox's own, but for
 * what is mounted read-only. Volumes, /proc and the like are not looked into, nor are the directories that a clean-up
 * empties. Unwatched paths are not even seen.
 */

#include <stdbool.h>
#include <stddef.h>

#include "pool/helper/agent/mounts.h"

enum boundary {
        BOUNDARY_NONE,
        BOUNDARY_OTHER,     /* something is mounted there: it counts that it is there */
        BOUNDARY_EMPTIED,   /* a directory; it counts that it is there */
        BOUNDARY_UNWATCHED, /* it does not matter what it is, and whether it is there */
};

struct boundaries {
        const struct mounts *mounts;
        const char *const *emptied, *const *unwatched; /* NULL at the end */
};

enum boundary boundary_at(const struct boundaries *b, const char *path);

/* Whether something is mounted at @path that is not the sandbox's own. */
bool boundary_is_foreign(const struct mounts *mounts, const char *path);

/* Whether there is any boundary in this directory or below it. */
bool boundary_is_below(const struct boundaries *b, const char *dir);
