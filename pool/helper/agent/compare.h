/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

#include "pool/helper/agent/remove.h"
#include "pool/helper/agent/tree.h"

/* The first paths that are not as they were: strings, each with a final NUL. See REPLY to CLEAN in protocol.h. */
struct differences {
        char *text;
        size_t size, len;
        unsigned n;
};

#define DIFFERENCES_MAX 16

/*
 * Makes the emptied directories what they were when they were noted, in mode and owner, and whether they are there.
 * They are empty. 0, or -errno and in @r->what which one.
 */
int compare_restore_emptied(const struct manifest *m, const struct boundaries *b, struct removal *r);

/*
 * Removes what was added since the note, sets back the times of directories, and says in @d what has changed or is gone.
 * 0, also when there are differences; or -errno and in @r->what where that was.
 */
int compare_sandbox(const struct manifest *m, const struct boundaries *b, struct removal *r, struct differences *d);
