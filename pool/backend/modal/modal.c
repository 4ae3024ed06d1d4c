/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/modal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/backend/modal/config/settings.h"
#include "pool/backend/modal/internal.h"
#include "pool/backend/modal/limits.h"
#include "pool/base/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

/* all sandboxes of this pool */

static int on_info(void *owner, const struct modal_info *info) {
        struct modal *m = owner;
        bool sane = info->created > 0 && info->created < 1e11;

        backend_found(&m->backend, &(struct sandbox_found){
                                           .id = info->id,
                                           .nonce = info->tag,
                                           .created_wall_us = sane ? (int64_t)(info->created * 1e6) : 0,
                                   });
        return 0;
}

static void on_listed(void *owner, const struct grpc_status *status) {
        struct modal *m = owner;
        struct result r = {};

        if (status->code != GRPC_OK)
                modal_client_explain(&m->client, &r, status, "listing the sandboxes of this pool");
        backend_listed(&m->backend, &r);
}

static int modal_list(struct backend *b) {
        struct modal *m = modal_of(b);

        return modal_listing_start(m, &m->listing,
                                   &(struct modal_listing_spec){
                                           .tag = { MODAL_TAG_POOL, m->pool_id },
                                           .want = MODAL_TAG_CREATE,
                                           .attempt_us = CALL_TIMEOUT_US,
                                           .retry_for_us = CREATE_RETRY_US,
                                           .take = on_info,
                                           .done = on_listed,
                                   },
                                   m);
}

static void modal_free(struct backend *b) {
        struct modal *m = modal_of(b);

        if (m->call)
                modal_call_cancel(TAKE_PTR(m->call));
        modal_listing_cancel(&m->listing);
        modal_client_deinit(&m->client);
        modal_settings_deinit(m);
        buf_deinit(&m->build_line);
        free(m->last_line);
        free(m->builder_version);
        free(m->app_id);
        free(m->image_id);
        free(m->entry_id);
        free(m);
}

static void modal_each_call(const struct backend *b, void (*each)(void *data, const struct backend_calls *calls),
                            void *data) {
        modal_counts_each(&container_of(b, const struct modal, backend)->client.counts, each, data);
}

static const struct backend_ops modal_ops = {
        .name = "modal",
        .start = modal_start,
        .free = modal_free,
        .create = modal_create,
        .adopt = modal_adopt,
        .list = modal_list,
        .leave = modal_leave,
        .each_call = modal_each_call,
        .destroy = modal_destroy,
        .clean = modal_clean,
        .exec = modal_exec,
        .exec_signal = modal_exec_signal,
        .exec_poll = modal_exec_poll,
        .exec_kill = modal_exec_kill,
        .exec_cancel = modal_exec_cancel,
};

/* Tags are short, and of few kinds of characters. Of a long text its end tells more. */
static void make_tag(char out[64], const char *text) {
        size_t len = strlen(text);

        snprintf(out, 64, "%s", len > 63 ? text + len - 63 : len ? text : "-");
        for (char *c = out; *c; c++)
                if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
                        *c = '_';
}

static int name_pool(struct modal *m, const struct modal_options *o, struct result *why) {
        char host[256] = "";

        /* Sandboxes of this id are ours to end: nothing that another pool could have too will do. */
        if (!o->pool_id || !*o->pool_id || strlen(o->pool_id) >= sizeof(m->pool_id)) {
                result_set(why, RESULT_INVALID, "the pool has no usable id");
                return -EINVAL;
        }
        strcpy(m->pool_id, o->pool_id);
        if (gethostname(host, sizeof(host) - 1) < 0)
                host[0] = '\0';
        make_tag(m->host, host);
        make_tag(m->mount, o->mountpoint ? o->mountpoint : "");
        return 0;
}

int modal_new(struct backend **out, uv_loop_t *loop, const struct modal_options *o, struct result *why) {
        struct modal *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        m->backend.ops = &modal_ops;
        list_init(&m->unlooked);
        m->build_line = (struct buf)BUF_INIT(EVENT_LEN_MAX);
        r = name_pool(m, o, why);
        if (r == 0)
                r = modal_settings_init(m, o, why);
        if (r == 0)
                r = modal_client_init(&m->client, loop, o->cafile,
                                      &(struct modal_given){
                                              .file = o->config_file,
                                              .profile = o->profile,
                                              .server_url = o->server_url,
                                              .token_id = o->token_id,
                                              .token_secret = o->token_secret,
                                              .environment = o->environment,
                                      },
                                      why);
        modal_control_init(&m->control, &m->client);
        if (r == 0) {
                m->entry_id = strdup("");
                r = m->entry_id ? 0 : -ENOMEM;
        }
        if (r < 0) {
                modal_free(&m->backend);
                return r;
        }
        *out = &m->backend;
        return 0;
}
