/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The FUSE session on the loop: it mounts, reads requests when they arrive, and
 * unmounts. Owned by main.
 */

#include <stdbool.h>
#include <uv.h>

#include "fs/fs.h"
#include "pool/util/result.h"

struct session;

/*
 * Mount at @mountpoint, after clearing a dead mount of ours there. @fs is
 * borrowed. @ended is called once, from the loop, when somebody else has
 * unmounted it. -errno with @why filled in.
 */
int session_new(struct session **out, uv_loop_t *loop, struct fs *fs, const char *mountpoint, bool debug,
                void (*ended)(void *data), void *data, struct result *why);

/*
 * Clear a dead mount of ours at @mountpoint. 0 if there is none, or none any more. -errno with @why filled in if
 * something else prevents a new mount.
 */
int session_clear_dead_mount(const char *mountpoint, struct result *why);

/* Unmount and close; waiting reads are answered. NULL is allowed. */
void session_free(struct session *s);

/* Whether the kernel has sent INIT, so that the mount answers. */
bool session_is_up(const struct session *s);
