/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/template.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/backend/modal/limits.h"
#include "pool/base/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define BUILD_WAIT_SECS 55.0f /* how long one ImageJoinStreaming goes on */

/* what start() asks for, one call after the other */

static void go_on(struct modal_template *t);

static void not_ready(struct modal_template *t, const struct grpc_status *status, const char *what, const char *name) {
        struct result r;

        modal_client_explain(t->control->client, &r, status, *name ? "%s \"%s\"" : "%s", what, name);
        backend_ready(&t->backend, &r);
}

static int ask(struct modal_template *t, const char *method, int (*pack)(void *owner, struct buf *out),
               void (*done)(void *owner, const struct grpc_status *, const void *, size_t)) {
        return modal_call_start(&t->control->endpoint,
                                &(struct modal_call_spec){
                                        .method = method,
                                        .group = HTTP_CALLS,
                                        .attempt_us = CALL_TIMEOUT_US,
                                        .tries = CALL_TRIES,
                                        .retry_for_us = LOOKUP_RETRY_US,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack,
                                        .done = done,
                                },
                                t, &t->call);
}

/* Who we are, and where */

static int pack_environment(void *owner, struct buf *out) {
        struct modal_template *t = owner;

        return modal_pack_environment(out, t->control->client->credentials.environment);
}

static void on_environment(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_template *t = owner;

        t->call = NULL;
        if (status->code == GRPC_OK && modal_read_environment(reply, len, &t->builder_version) < 0)
                status = MODAL_UNREADABLE("EnvironmentGetOrCreate");
        if (status->code != GRPC_OK)
                not_ready(t, status, *t->control->client->credentials.environment ? "Modal environment" : "opening Modal",
                          t->control->client->credentials.environment);
        else
                go_on(t);
}

static int pack_app(void *owner, struct buf *out) {
        struct modal_template *t = owner;

        return modal_pack_app(out, t->settings.app, t->control->client->credentials.environment);
}

static void on_app(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_template *t = owner;
        struct result ok = {};

        t->call = NULL;
        if (status->code == GRPC_OK && modal_read_id(reply, len, &t->app_id) < 0)
                status = MODAL_UNREADABLE("AppGetOrCreate");
        if (status->code != GRPC_OK)
                not_ready(t, status, "app", t->settings.app);
        else if (t->use == BACKEND_TO_END)
                backend_ready(&t->backend, &ok); /* sandboxes are listed by the app, and ended by their ids */
        else
                go_on(t);
}

/* Secrets, then volumes: the next of them */

static bool is_secret(const struct modal_template *t) {
        return t->next < t->settings.secrets.n;
}

static struct modal_volume *next_volume(struct modal_template *t) {
        return &t->settings.volumes[t->next - t->settings.secrets.n];
}

static const char *next_name(struct modal_template *t) {
        return is_secret(t) ? t->settings.secrets.names[t->next] : next_volume(t)->name;
}

static int pack_named(void *owner, struct buf *out) {
        struct modal_template *t = owner;

        return modal_pack_named(out, next_name(t), t->control->client->credentials.environment);
}

static void on_named(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_template *t = owner;

        t->call = NULL;
        if (status->code == GRPC_OK &&
            modal_read_id(reply, len, is_secret(t) ? &t->settings.secret_ids[t->next] : &next_volume(t)->id) < 0)
                status = is_secret(t) ? MODAL_UNREADABLE("SecretGetOrCreate") : MODAL_UNREADABLE("VolumeGetOrCreate");
        if (status->code != GRPC_OK) {
                not_ready(t, status, is_secret(t) ? "secret" : "volume", next_name(t));
                return;
        }
        t->next++;
        go_on(t);
}

/* the image */

static void flush_build_line(struct modal_template *t) {
        if (t->build_line.len > 0) {
                modal_client_scrub(t->control->client, t->build_line.data);
                backend_notice(&t->backend, buf_text(&t->build_line));
                free(t->last_line);
                t->last_line = strdup(t->build_line.data);
        }
        buf_clear(&t->build_line);
}

/* Pieces of the log are not lines. */
static void on_build_text(void *owner, const char *text) {
        struct modal_template *t = owner;

        for (; *text; text++) {
                bool ends = *text == '\n' || *text == '\r';

                if (ends || t->build_line.len >= EVENT_LEN_MAX / 2)
                        flush_build_line(t);
                if (!ends)
                        (void)buf_append(&t->build_line, text, 1);
        }
}

static int on_build_message(void *owner, const void *data, size_t len) {
        struct modal_template *t = owner;
        struct modal_result result;
        int r = modal_read_image_join(data, len, on_build_text, t, &t->entry_id, &result);

        if (r == 0 && result.status != MODAL_RESULT_NONE)
                t->build = result;
        return r;
}

static int pack_build(void *owner, struct buf *out) {
        struct modal_template *t = owner;

        return modal_pack_image_join(out, t->image_id, t->entry_id, BUILD_WAIT_SECS);
}

static void follow_build(struct modal_template *t);

/* What Modal says may be no more than that a command failed: why, the end of the log knows best. */
static void explain_build(struct modal_template *t, struct result *r) {
        char text[MODAL_RESULT_TEXT_MAX];

        modal_client_scrub(t->control->client, t->build.text);
        if (*t->build.text)
                snprintf(text, sizeof(text), "%s", t->build.text);
        else
                modal_result_explain(&t->build, text);
        if (t->last_line && !strstr(text, t->last_line))
                result_set(r, RESULT_INVALID, "image %s cannot be built: %s; its log ends with: %s", t->settings.image, text,
                           t->last_line);
        else
                result_set(r, RESULT_INVALID, "image %s cannot be built: %s", t->settings.image, text);
}

static void image_done(struct modal_template *t) {
        struct result r = {};

        flush_build_line(t);
        if (t->build.status != MODAL_RESULT_SUCCESS)
                explain_build(t, &r);
        buf_deinit(&t->build_line); /* the log has ended */
        t->settings.definition.image_id = t->image_id;
        backend_ready(&t->backend, &r);
}

static void on_build_done(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_template *t = owner;

        t->call = NULL;
        if (t->build.status != MODAL_RESULT_NONE)
                image_done(t);
        else if (status->code == GRPC_OK)
                follow_build(t);
        else
                not_ready(t, status, "building image", t->settings.image);
}

static void follow_build(struct modal_template *t) {
        if (modal_call_start(&t->control->endpoint,
                             &(struct modal_call_spec){
                                     .method = "ImageJoinStreaming",
                                     .group = HTTP_STREAMS,
                                     .attempt_us = 2 * (int64_t)BUILD_WAIT_SECS * USEC_PER_SEC,
                                     .retry_for_us = BUILD_RETRY_US,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_build,
                                     .message = on_build_message,
                                     .done = on_build_done,
                             },
                             t, &t->call) < 0)
                not_ready(t, &modal_no_memory, "building image", t->settings.image);
}

static void begin_build(struct modal_template *t) {
        _cleanup_(cleanup_free) char *line = NULL;

        if (asprintf(&line, "building image %s", t->settings.image) >= 0)
                backend_notice(&t->backend, line);
        follow_build(t);
}

static int pack_image(void *owner, struct buf *out) {
        struct modal_template *t = owner;

        return modal_pack_image(out, t->app_id, t->builder_version, t->settings.commands, t->settings.n_commands);
}

static void on_image(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_template *t = owner;

        t->call = NULL;
        if (status->code == GRPC_OK && modal_read_image(reply, len, &t->image_id, &t->build) < 0)
                status = MODAL_UNREADABLE("ImageGetOrCreate");
        if (status->code != GRPC_OK)
                not_ready(t, status, "image", t->settings.image);
        else if (t->build.status != MODAL_RESULT_NONE)
                image_done(t);
        else
                begin_build(t);
}

/* There is nothing to build. */
static int begin_with_snapshot(struct modal_template *t) {
        struct result ok = {};

        t->settings.definition.image_id = t->snapshot;
        backend_ready(&t->backend, &ok);
        return 0;
}

static int next_step(struct modal_template *t) {
        if (!t->builder_version)
                return ask(t, "EnvironmentGetOrCreate", pack_environment, on_environment);
        if (!t->app_id)
                return ask(t, "AppGetOrCreate", pack_app, on_app);
        if (t->next < t->settings.secrets.n + t->settings.n_volumes)
                return ask(t, is_secret(t) ? "SecretGetOrCreate" : "VolumeGetOrCreate", pack_named, on_named);
        t->settings.definition.app_id = t->app_id;
        if (*t->snapshot)
                return begin_with_snapshot(t);
        return ask(t, "ImageGetOrCreate", pack_image, on_image);
}

static void go_on(struct modal_template *t) {
        if (next_step(t) < 0)
                not_ready(t, &modal_no_memory, "starting", "");
}

int modal_template_start(struct backend *b, enum backend_use use) {
        struct modal_template *t = modal_template_of(b);

        t->use = use;
        return next_step(t);
}

/* all sandboxes that were made of it */

static int on_info(void *owner, const struct modal_info *info) {
        struct modal_template *t = owner;
        bool sane = info->created > 0 && info->created < 1e11;

        backend_found(&t->backend, &(struct sandbox_found){
                                           .id = info->id,
                                           .nonce = info->tag,
                                           .created_wall_us = sane ? (int64_t)(info->created * 1e6) : 0,
                                   });
        return 0;
}

static void on_listed(void *owner, const struct grpc_status *status) {
        struct modal_template *t = owner;
        struct result r = {};

        if (status->code != GRPC_OK)
                modal_client_explain(t->control->client, &r, status, "listing the sandboxes of this pool");
        backend_listed(&t->backend, &r);
}

int modal_template_list(struct backend *b) {
        struct modal_template *t = modal_template_of(b);

        return modal_listing_start(&t->listing, t->control,
                                   &(struct modal_listing_spec){
                                           .app_id = t->app_id,
                                           .tag = { MODAL_TAG_POOL, t->pool_id },
                                           .want = MODAL_TAG_CREATE,
                                           .attempt_us = CALL_TIMEOUT_US,
                                           .retry_for_us = LOOKUP_RETRY_US,
                                           .take = on_info,
                                           .done = on_listed,
                                   },
                                   t);
}

/* its memory, and its names */

/* Tags are short, and of few kinds of characters. Of a long text its end tells more. */
static void make_tag(char out[64], const char *text) {
        size_t len = strlen(text);

        snprintf(out, 64, "%s", len > 63 ? text + len - 63 : len ? text : "-");
        for (char *c = out; *c; c++)
                if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
                        *c = '_';
}

static int name_pool(struct modal_template *t, const struct backend_setup *setup, struct result *why) {
        char host[256] = "";

        /* Sandboxes of this id are ours to end: nothing that another pool could have too will do. */
        if (!*setup->pool_id || strlen(setup->pool_id) >= sizeof(t->pool_id)) {
                result_set(why, RESULT_INVALID, "the pool has no usable id");
                return -EINVAL;
        }
        strcpy(t->pool_id, setup->pool_id);
        if (gethostname(host, sizeof(host) - 1) < 0)
                host[0] = '\0';
        make_tag(t->host, host);
        make_tag(t->mount, setup->mountpoint);
        return 0;
}

void modal_template_tags(const struct modal_template *t, const char *nonce, struct modal_tag out[MODAL_N_TAGS]) {
        const struct modal_tag tags[MODAL_N_TAGS] = {
                { MODAL_TAG_POOL, t->pool_id },  { "modalpool-host", t->host },
                { "modalpool-mount", t->mount }, { "modalpool-version", MODALPOOL_VERSION },
                { MODAL_TAG_CREATE, nonce },
        };

        memcpy(out, tags, sizeof(tags));
}

int modal_template_init(struct modal_template *t, struct modal_control *control,
                        struct modal_liveness_queue *liveness_queue, const struct modal_options *o,
                        const struct backend_setup *setup, struct result *why) {
        int r;

        t->control = control;
        t->liveness_queue = liveness_queue;
        t->build_line = (struct buf)BUF_INIT(EVENT_LEN_MAX);
        t->compare = setup->compare;
        snprintf(t->snapshot, sizeof(t->snapshot), "%s", setup->snapshot ?: "");
        r = name_pool(t, setup, why);
        if (r == 0)
                r = modal_settings_init(&t->settings, o, setup, why);
        if (r < 0)
                return r;
        t->entry_id = strdup("");
        return t->entry_id ? 0 : -ENOMEM;
}

void modal_template_deinit(struct modal_template *t) {
        if (t->call)
                modal_call_cancel(TAKE_PTR(t->call));
        modal_listing_cancel(&t->listing);
        modal_settings_deinit(&t->settings);
        buf_deinit(&t->build_line);
        free(t->last_line);
        free(t->builder_version);
        free(t->app_id);
        free(t->image_id);
        free(t->entry_id);
}
