/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Requests about snapshots: copies of the file systems of sandboxes, which the provider keeps. Each is embedded in its
 * caller's own struct.
 *
 *   none → under way → none      done(), once
 *
 * done() comes from the loop, never from inside the call that makes the request.
 */

#include "pool/util/result.h"

#define SNAPSHOT_IMAGE_MAX 80 /* bytes of the provider's name of one, with the final NUL */

/* One is being taken. Ends at the latest with its sandbox: done() then comes before died() or destroyed(). */
struct snapshot_call {
        /* Ok: it is there, and the provider calls it @image. Not ok: whether it is there is not known; @image is NULL. */
        void (*done)(struct snapshot_call *c, const struct result *r, const char *image);
};

/* One is being deleted. */
struct snapshot_deletion {
        /* Ok: it is gone. Not ok: the provider's own time limit ends it. */
        void (*done)(struct snapshot_deletion *d, const struct result *r);
};
