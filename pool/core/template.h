/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The template of a pool: its backend, which is made and started once the pool wants to create something.
 *
 *   none → queued → starting → ready
 *          queued, starting → none     the pool's options were changed, or it is removed
 *          starting → failed → queued  the pool wants it again; its breaker says when
 *
 * A start may build an image, so only a few go on at a time (option builds); the others are queued.
 *
 * Embedded in its pool. The mount's own pool has none: its backend is started by the daemon.
 */

#include <stdbool.h>

#include "pool/backend/backend.h"
#include "pool/base/config.h"
#include "pool/core/parts.h"
#include "pool/util/list.h"
#include "pool/util/result.h"

enum template_state {
        TEMPLATE_NONE,
        TEMPLATE_QUEUED,
        TEMPLATE_STARTING,
        TEMPLATE_READY,
        TEMPLATE_FAILED,
};

struct template {
        struct list link; /* in the queue, exactly while queued */
        struct templates *all;
        enum template_state state;
        struct backend *backend; /* while starting, ready or failed */
        const struct config *config;
        const char *snapshot; /* its sandboxes begin as this one is; "": as the options say */
        void (*started)(struct template *t, const struct result *r);
        void (*notice)(struct template *t, const char *line);
};

/* Those of a mount. */
struct templates {
        const struct core_parts *parts; /* borrowed */
        struct list queue;
        unsigned n_starting;
};

void templates_init(struct templates *all, const struct core_parts *parts);

/* Start some that are queued, as far as builds allows. True: started() was called, for one that could not. */
bool templates_tick(struct templates *all);

/* The callbacks and @config are set by the caller. */
void template_init(struct template *t, struct templates *all);

/* Queue it, unless it is queued, starting or ready. Answered by started(), from the loop or from templates_tick(). */
void template_want(struct template *t);

/* Drop its backend, of which no sandbox is left. started() does not come any more. */
void template_drop(struct template *t);

/* "none", "queued", "starting", "ready", "failed". */
const char *template_state_name(enum template_state state);
