/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/cleanup.h"

static int pack(void *owner, struct buf *out) {
        struct modal_snapshot *s = owner;

        return modal_pack_snapshot(out, s->identity->task_id, s->id, s->ttl_secs);
}

static void on_taken(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        _cleanup_(cleanup_free) char *image = NULL;
        struct modal_snapshot *s = owner;
        struct result r = {};

        if (status->code == GRPC_OK && modal_read_id(reply, len, &image) < 0)
                status = MODAL_UNREADABLE("TaskSnapshotFilesystem");
        if (status->code != GRPC_OK)
                modal_client_explain(s->router->client, &r, status, "snapshot of environment %s", s->identity->id);
        s->call = NULL;
        s->done(s, &r, image);
}

int modal_snapshot_start(struct modal_snapshot *s, struct modal_endpoint *router, const char *id, int64_t ttl_secs) {
        s->router = router;
        s->ttl_secs = ttl_secs;
        snprintf(s->id, sizeof(s->id), "%s", id);
        return modal_call_start(router,
                                &(struct modal_call_spec){
                                        .method = "TaskSnapshotFilesystem",
                                        .group = HTTP_CALLS,
                                        .attempt_us = SNAPSHOT_TIMEOUT_US,
                                        .retry_for_us = SNAPSHOT_TIMEOUT_US,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack,
                                        .done = on_taken,
                                },
                                s, &s->call);
}

void modal_snapshot_cancel(struct modal_snapshot *s) {
        if (s->call)
                modal_call_cancel(TAKE_PTR(s->call));
}
