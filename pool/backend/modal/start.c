/* SPDX-License-Identifier: MIT */

/*
 * What start() asks for, one call after the other: the Modal environment, the app; and for new sandboxes each secret,
 * each volume, the image.
 * An image that is not there yet is built; its log goes to the pool's events.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/internal.h"
#include "pool/backend/modal/limits.h"
#include "pool/base/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define BUILD_WAIT_SECS 55.0f /* how long one ImageJoinStreaming goes on */

static void go_on(struct modal *m);

static void not_ready(struct modal *m, const struct grpc_status *status, const char *what, const char *name) {
        struct result r;

        modal_client_explain(&m->client, &r, status, *name ? "%s \"%s\"" : "%s", what, name);
        backend_ready(&m->backend, &r);
}

static int ask(struct modal *m, const char *method, int (*pack)(void *owner, struct buf *out),
               void (*done)(void *owner, const struct grpc_status *, const void *, size_t)) {
        return modal_call_start(&m->control,
                                &(struct modal_call_spec){
                                        .method = method,
                                        .group = HTTP_CALLS,
                                        .attempt_us = CALL_TIMEOUT_US,
                                        .tries = CALL_TRIES,
                                        .retry_for_us = CREATE_RETRY_US,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack,
                                        .done = done,
                                },
                                m, &m->call);
}

/* Who we are, and where */

static int pack_environment(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_environment(out, m->client.credentials.environment);
}

static void on_environment(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;

        m->call = NULL;
        if (status->code == GRPC_OK && modal_read_environment(reply, len, &m->builder_version) < 0)
                status = MODAL_UNREADABLE("EnvironmentGetOrCreate");
        if (status->code != GRPC_OK)
                not_ready(m, status, *m->client.credentials.environment ? "Modal environment" : "opening Modal",
                          m->client.credentials.environment);
        else
                go_on(m);
}

static int pack_app(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_app(out, m->app, m->client.credentials.environment);
}

static void on_app(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;
        struct result ok = {};

        m->call = NULL;
        if (status->code == GRPC_OK && modal_read_id(reply, len, &m->app_id) < 0)
                status = MODAL_UNREADABLE("AppGetOrCreate");
        if (status->code != GRPC_OK)
                not_ready(m, status, "app", m->app);
        else if (m->use == BACKEND_TO_END)
                backend_ready(&m->backend, &ok); /* sandboxes are listed by the app, and ended by their ids */
        else
                go_on(m);
}

/* Secrets, then volumes: the next of them */

static bool is_secret(const struct modal *m) {
        return m->next < m->n_secrets;
}

static struct modal_volume *next_volume(struct modal *m) {
        return &m->volumes[m->next - m->n_secrets];
}

static const char *next_name(struct modal *m) {
        return is_secret(m) ? m->secrets[m->next] : next_volume(m)->name;
}

static int pack_named(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_named(out, next_name(m), m->client.credentials.environment);
}

static void on_named(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;

        m->call = NULL;
        if (status->code == GRPC_OK &&
            modal_read_id(reply, len, is_secret(m) ? &m->secret_ids[m->next] : &next_volume(m)->id) < 0)
                status = is_secret(m) ? MODAL_UNREADABLE("SecretGetOrCreate") : MODAL_UNREADABLE("VolumeGetOrCreate");
        if (status->code != GRPC_OK) {
                not_ready(m, status, is_secret(m) ? "secret" : "volume", next_name(m));
                return;
        }
        m->next++;
        go_on(m);
}

/* the image */

static void flush_build_line(struct modal *m) {
        if (m->build_line.len > 0) {
                modal_client_scrub(&m->client, m->build_line.data);
                backend_notice(&m->backend, buf_text(&m->build_line));
                free(m->last_line);
                m->last_line = strdup(m->build_line.data);
        }
        buf_clear(&m->build_line);
}

/* Pieces of the log are not lines. */
static void on_build_text(void *owner, const char *text) {
        struct modal *m = owner;

        for (; *text; text++) {
                bool ends = *text == '\n' || *text == '\r';

                if (ends || m->build_line.len >= EVENT_LEN_MAX / 2)
                        flush_build_line(m);
                if (!ends)
                        (void)buf_append(&m->build_line, text, 1);
        }
}

static int on_build_message(void *owner, const void *data, size_t len) {
        struct modal *m = owner;
        struct modal_result result;
        int r = modal_read_image_join(data, len, on_build_text, m, &m->entry_id, &result);

        if (r == 0 && result.status != MODAL_RESULT_NONE)
                m->build = result;
        return r;
}

static int pack_build(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_image_join(out, m->image_id, m->entry_id, BUILD_WAIT_SECS);
}

static void follow_build(struct modal *m);

/* What Modal says may be no more than that a command failed: why, the end of the log knows best. */
static void explain_build(struct modal *m, struct result *r) {
        const char *text = *m->build.text ? m->build.text : modal_result_name(m->build.status);

        modal_client_scrub(&m->client, m->build.text);
        if (m->last_line && !strstr(text, m->last_line))
                result_set(r, RESULT_INVALID, "image %s cannot be built: %s; its log ends with: %s", m->image, text,
                           m->last_line);
        else
                result_set(r, RESULT_INVALID, "image %s cannot be built: %s", m->image, text);
}

static void image_done(struct modal *m) {
        struct result r = {};

        flush_build_line(m);
        if (m->build.status != MODAL_RESULT_SUCCESS)
                explain_build(m, &r);
        m->definition.image_id = m->image_id;
        backend_ready(&m->backend, &r);
}

static void on_build_done(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;

        m->call = NULL;
        if (m->build.status != MODAL_RESULT_NONE)
                image_done(m);
        else if (status->code == GRPC_OK)
                follow_build(m);
        else
                not_ready(m, status, "building image", m->image);
}

static void follow_build(struct modal *m) {
        if (modal_call_start(&m->control,
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
                             m, &m->call) < 0)
                not_ready(m, &modal_no_memory, "building image", m->image);
}

static void begin_build(struct modal *m) {
        _cleanup_(cleanup_free) char *line = NULL;

        if (asprintf(&line, "building image %s", m->image) >= 0)
                backend_notice(&m->backend, line);
        follow_build(m);
}

static int pack_image(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_image(out, m->app_id, m->builder_version, m->commands, m->n_commands);
}

static void on_image(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;

        m->call = NULL;
        if (status->code == GRPC_OK && modal_read_image(reply, len, &m->image_id, &m->build) < 0)
                status = MODAL_UNREADABLE("ImageGetOrCreate");
        if (status->code != GRPC_OK)
                not_ready(m, status, "image", m->image);
        else if (m->build.status != MODAL_RESULT_NONE)
                image_done(m);
        else
                begin_build(m);
}

static int next_step(struct modal *m) {
        if (!m->builder_version)
                return ask(m, "EnvironmentGetOrCreate", pack_environment, on_environment);
        if (!m->app_id)
                return ask(m, "AppGetOrCreate", pack_app, on_app);
        if (m->next < m->n_secrets + m->n_volumes)
                return ask(m, is_secret(m) ? "SecretGetOrCreate" : "VolumeGetOrCreate", pack_named, on_named);
        m->definition.app_id = m->app_id;
        return ask(m, "ImageGetOrCreate", pack_image, on_image);
}

static void go_on(struct modal *m) {
        if (next_step(m) < 0)
                not_ready(m, &modal_no_memory, "starting", "");
}

int modal_start(struct backend *b, enum backend_use use) {
        struct modal *m = modal_of(b);

        m->use = use;
        return next_step(m);
}
