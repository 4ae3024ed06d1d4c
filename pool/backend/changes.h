/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a clean-up found and cannot undo: the first paths that were changed or are gone. A path that ends in "/" is a
 * directory of which something is gone.
 *
 * A value: copied by assignment, empty when it is all zeros.
 */

#include <stddef.h>

#include "pool/util/buf.h"

#define SANDBOX_CHANGES_SIZE 1024 /* bytes of all paths */
#define SANDBOX_PATH_SIZE 256     /* bytes of one, with the final NUL; longer ones are cut */

struct sandbox_changes {
        size_t len;
        char text[SANDBOX_CHANGES_SIZE]; /* each with a final NUL, and as text_show() gives it */
};

/* Add a path, of any bytes. One for which there is no room is left out. */
void sandbox_changes_add(struct sandbox_changes *c, const char *path);

/* The first path, or NULL: there is none. Borrowed. */
const char *sandbox_changes_first(const struct sandbox_changes *c);

/* All of them, separated by spaces. 0 or -errno. */
int sandbox_changes_render(const struct sandbox_changes *c, struct buf *out);
