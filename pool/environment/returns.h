/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How environments come back from leases whose jobs ran there: to be lent again, or to end, and why.
 *
 * Where more than half of them end though the pool would lend them again, that is said once, with what does it most.
 * Of the paths that leases change, the most frequent are kept (the Space-Saving algorithm): one whose share is larger
 * than 1/RETURNS_PATHS is among them.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/changes.h"
#include "pool/util/result.h"

#define RETURNS_PATHS 32
#define RETURNS_MIN 8 /* of them, before anything is said */

enum environment_return {
        RETURN_CLEAN,      /* lent again */
        RETURN_CHANGED,    /* a clean-up cannot undo what was done */
        RETURN_SINGLE_USE, /* no clean-up can tell what was done */
        RETURN_FAILED,     /* the clean-up did not work, or took too long */
        RETURN_RETIRED,    /* it was not to be lent again in any case */
};
#define RETURN_N (RETURN_RETIRED + 1)

struct returns_path {
        char path[SANDBOX_PATH_SIZE];
        uint64_t n; /* at most by as much too large as the least of them */
};

/* All zeros at first. It goes with returns_deinit(). */
struct returns {
        uint64_t n[RETURN_N];
        struct returns_path *paths; /* RETURNS_PATHS of them; NULL before the first */
        bool said;
};

void returns_deinit(struct returns *r);

/* The word for it, as stats and metrics have it. */
const char *environment_return_name(enum environment_return how);

/* @path: the first that was changed, or NULL. True, once: the advice is in @advice. */
bool returns_count(struct returns *r, enum environment_return how, const char *path, struct result *advice);
