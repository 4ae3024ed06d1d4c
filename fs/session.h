/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The FUSE session on the loop: mounts, reads requests when there are some,
 * unmounts. Owned by main.
 */

#include <stdbool.h>
#include <uv.h>

#include "fs/fs.h"
#include "pool/util/result.h"

struct session;

/*
 * Mount at @mountpoint. A dead mount of ours that lies there is cleared first.
 * @fs is borrowed. @ended is called once, from the loop, when the mount is gone
 * by somebody else's doing. -errno with @why filled in.
 */
int session_new(struct session **out, uv_loop_t *loop, struct fs *fs, const char *mountpoint, bool debug,
                void (*ended)(void *data), void *data, struct result *why);

/*
 * Clear a dead mount of ours at @mountpoint. 0 when there is none, or now none any more; -errno with @why filled in
 * when something else is in the way of a new one.
 */
int session_clear_dead_mount(const char *mountpoint, struct result *why);

/* Unmount, close; waiting reads are answered. NULL is fine. */
void session_free(struct session *s);

/* Whether the kernel has greeted us, so that the mount answers. */
bool session_is_up(const struct session *s);
