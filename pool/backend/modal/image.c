/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/cleanup.h"

struct deletion {
        struct modal_control *control;
        struct modal_call *call;
        struct snapshot_deletion *deletion;
        char image[SNAPSHOT_IMAGE_MAX];
};

static int pack(void *owner, struct buf *out) {
        struct deletion *d = owner;

        return modal_pack_image_delete(out, d->image);
}

/* One that is not there has ended already. */
static void on_deleted(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct deletion *d = owner;
        struct result r = {};

        if (status->code != GRPC_OK && status->code != GRPC_NOT_FOUND)
                modal_client_explain(d->control->client, &r, status, "deleting image %s", d->image);
        d->deletion->done(d->deletion, &r);
        free(d);
}

int modal_image_delete(struct modal_control *control, const char *image, struct snapshot_deletion *deletion) {
        struct deletion *d;
        int r;

        if (!*image)
                return -ENOENT;
        d = calloc(1, sizeof(*d));
        if (!d)
                return -ENOMEM;
        d->control = control;
        d->deletion = deletion;
        snprintf(d->image, sizeof(d->image), "%s", image);
        r = modal_call_start(&control->endpoint,
                             &(struct modal_call_spec){
                                     .method = "ImageDelete",
                                     .group = HTTP_CALLS,
                                     .attempt_us = CALL_TIMEOUT_US,
                                     .retry_for_us = DESTROY_RETRY_US,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack,
                                     .done = on_deleted,
                             },
                             d, &d->call);
        if (r < 0)
                free(d);
        return r;
}
