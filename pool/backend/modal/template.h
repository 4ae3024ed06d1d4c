/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The template of a pool: what its sandboxes are made of.
 *
 *   new → starting → ready    ready(result) comes once
 *
 * start() looks up app, secrets, volumes and image, and has the image built where it is not there yet; then the
 * definition is complete that each create sends. To the pool the template is its struct backend. A pool has one; the
 * client, with the connections, is one for all pools of a mount, and outlives them.
 */

#include "pool/backend/backend.h"
#include "pool/backend/modal/config/settings.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/rpc/control.h"
#include "pool/backend/modal/sandbox/list.h"
#include "pool/util/buf.h"
#include "pool/util/uuid.h"

struct modal_liveness_queue;

enum { MODAL_N_TAGS = 5 };

#define MODAL_TAG_POOL "modalpool-pool"
#define MODAL_TAG_CREATE "modalpool-create" /* its value is the nonce */

struct modal_template {
        struct backend backend;
        struct modal_control *control; /* borrowed, as what follows; by it also the client */
        struct modal_liveness_queue *liveness_queue;
        struct modal_settings settings;
        bool compare; /* clean-ups would have to */
        char snapshot[SNAPSHOT_IMAGE_MAX]; /* the image of its sandboxes; "": that of the settings */
        char pool_id[UUID_SIZE], host[64], mount[64]; /* for the tags */

        /* start */
        enum backend_use use;
        struct modal_call *call;
        size_t next; /* secret or volume to be looked up */
        char *builder_version, *app_id, *image_id, *entry_id;
        struct modal_result build;
        struct buf build_line; /* of the image's log, not yet whole */
        char *last_line;       /* the newest that was, or NULL */

        bool v2_refused; /* V2 does not make what V1 has made: sandboxes are V1 from then on */
        struct modal_listing listing; /* of this pool's sandboxes */
};

static inline struct modal_template *modal_template_of(struct backend *b) {
        return container_of(b, struct modal_template, backend);
}

/* Of zeros. 0, or -errno with @why; what it has set by then goes with deinit. */
int modal_template_init(struct modal_template *t, struct modal_control *control,
                        struct modal_liveness_queue *liveness_queue, const struct modal_options *o,
                        const struct backend_setup *setup, struct result *why);
void modal_template_deinit(struct modal_template *t);

/* As the backend's start() and list(). */
int modal_template_start(struct backend *b, enum backend_use use);
int modal_template_list(struct backend *b);

/* The tags of a sandbox. All values are borrowed, @nonce too. */
void modal_template_tags(const struct modal_template *t, const char *nonce, struct modal_tag out[MODAL_N_TAGS]);
