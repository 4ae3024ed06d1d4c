/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/backend/modal-internal.h"
#include "pool/backend/modal-settings.h"
#include "pool/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

#define BUILD_WAIT_SECS 55.0f /* how long one ImageJoinStreaming goes on */

/* errors */

/* Whatever a server puts into its messages, no secret of ours gets any further. */
void modal_scrub(const struct modal *m, char *text) {
        const char *secrets[] = { m->credentials.token_secret, m->credentials.token_id, "eyJ" };

        for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++)
                for (char *at = text; *secrets[i] && (at = strstr(at, secrets[i]));) {
                        size_t len = strlen(secrets[i]);

                        /* A token of a router: what it begins with, to its end. */
                        while (isalnum((unsigned char)at[len]) || (at[len] && strchr("-_.=", at[len])))
                                len++;
                        memset(at, '*', len);
                        at += len;
                }
}

static enum result_code code_of(const struct grpc_status *status) {
        switch (status->code) {
        case GRPC_UNAUTHENTICATED:
        case GRPC_PERMISSION_DENIED:
                return RESULT_DENIED;
        case GRPC_INVALID_ARGUMENT:
        case GRPC_NOT_FOUND:
        case GRPC_FAILED_PRECONDITION:
        case GRPC_UNIMPLEMENTED:
        case GRPC_ALREADY_EXISTS:
                return RESULT_INVALID;
        case GRPC_DEADLINE_EXCEEDED:
                return RESULT_TIMEOUT;
        case GRPC_RESOURCE_EXHAUSTED:
                return RESULT_BUSY;
        default:
                return RESULT_FAILED;
        }
}

void modal_explain(struct modal *m, struct result *r, const struct grpc_status *status, const char *what, ...) {
        char head[320], said[GRPC_MESSAGE_TEXT_MAX];
        const char *server = m->credentials.server_url;
        va_list ap;

        va_start(ap, what);
        vsnprintf(head, sizeof(head), what, ap);
        va_end(ap);
        snprintf(said, sizeof(said), "%s", *status->message ? status->message : grpc_code_name(status->code));
        modal_scrub(m, said);
        switch (status->cause) {
        case HTTP_UNREACHABLE:
                result_set(r, RESULT_FAILED, "%s: no connection to %s: %s", head, server, said);
                break;
        case HTTP_UNTRUSTED:
                result_set(r, RESULT_FAILED,
                           "%s: the certificate of %s is not trusted: %s (cafile= or SSL_CERT_FILE names "
                           "authorities to trust)",
                           head, server, said);
                break;
        case HTTP_BROKEN:
                result_set(r, code_of(status), "%s: the connection to Modal broke: %s", head, said);
                break;
        case HTTP_TIMEOUT:
                result_set(r, RESULT_TIMEOUT, "%s: Modal gave no answer in time", head);
                break;
        case HTTP_REFUSED:
                result_set(r, RESULT_FAILED, "%s: %s", head, said);
                break;
        case HTTP_OK:
                if (status->code == GRPC_UNAUTHENTICATED)
                        result_set(r, RESULT_DENIED, "%s: Modal refuses the token: %s (MODAL_TOKEN_ID and "
                                   "MODAL_TOKEN_SECRET, or ~/.modal.toml)", head, said);
                else
                        result_set(r, code_of(status), "%s: Modal says: %s", head, said);
                break;
        }
}

/* start: one step after the other */

static void next_step(struct modal *m);

static void not_ready(struct modal *m, const struct grpc_status *status, const char *what, const char *name) {
        struct result r;

        modal_explain(m, &r, status, *name ? "%s \"%s\"" : "%s", what, name);
        backend_ready(&m->backend, &r);
}

/* A call of the start: its id, or what else it says, into *@at. */
static void ask(struct modal *m, const char *method, int (*pack)(void *owner, struct buf *out),
                void (*done)(void *owner, const struct grpc_status *, const void *, size_t)) {
        struct grpc_status status = { .code = GRPC_INTERNAL, .message = "out of memory" };

        if (modal_call_start(m,
                             &(struct modal_call_spec){
                                     .method = method,
                                     .lane = HTTP_CALLS,
                                     .attempt_us = CALL_TIMEOUT_US,
                                     .tries = CALL_TRIES,
                                     .patience_us = CREATE_PATIENCE_US,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack,
                                     .done = done,
                             },
                             m, &m->call) < 0)
                not_ready(m, &status, "starting", "");
}

static const struct grpc_status unreadable = { .code = GRPC_INTERNAL, .message = "the answer cannot be read" };

static int pack_environment(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_environment(out, m->credentials.environment);
}

static void on_environment(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;

        m->call = NULL;
        if (status->code == GRPC_OK && modal_read_environment(reply, len, &m->builder_version) < 0)
                status = &unreadable;
        if (status->code != GRPC_OK)
                not_ready(m, status, *m->credentials.environment ? "Modal environment" : "opening Modal",
                          m->credentials.environment);
        else
                next_step(m);
}

static int pack_app(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_app(out, m->app, m->credentials.environment);
}

static void on_app(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;

        m->call = NULL;
        if (status->code == GRPC_OK && modal_read_id(reply, len, &m->app_id) < 0)
                status = &unreadable;
        if (status->code != GRPC_OK)
                not_ready(m, status, "app", m->app);
        else
                next_step(m);
}

static int pack_secret(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_secret(out, m->secrets[m->next], m->credentials.environment);
}

static void on_secret(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;

        m->call = NULL;
        if (status->code == GRPC_OK && modal_read_id(reply, len, &m->secret_ids[m->next]) < 0)
                status = &unreadable;
        if (status->code != GRPC_OK) {
                not_ready(m, status, "secret", m->secrets[m->next]);
                return;
        }
        m->next++;
        next_step(m);
}

static int pack_volume(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_volume(out, m->volumes[m->next - m->n_secrets].name, m->credentials.environment);
}

static void on_volume(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;
        struct modal_volume *v = &m->volumes[m->next - m->n_secrets];

        m->call = NULL;
        if (status->code == GRPC_OK && modal_read_id(reply, len, &v->id) < 0)
                status = &unreadable;
        if (status->code != GRPC_OK) {
                not_ready(m, status, "volume", v->name);
                return;
        }
        m->next++;
        next_step(m);
}

/* the image */

static void flush_build_line(struct modal *m) {
        if (m->build_line.len > 0) {
                modal_scrub(m, m->build_line.data);
                backend_notice(&m->backend, buf_text(&m->build_line));
        }
        buf_clear(&m->build_line);
}

/* Pieces of the log are not lines. */
static void on_build_text(void *owner, const char *text) {
        struct modal *m = owner;

        for (; *text; text++) {
                unsigned char c = *text;

                if (c == '\n' || c == '\r' || m->build_line.len >= EVENT_LEN_MAX / 2)
                        flush_build_line(m);
                if (c >= ' ' && c != 0x7f)
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

static void image_done(struct modal *m) {
        struct result r = {};

        flush_build_line(m);
        if (m->build.status != MODAL_RESULT_SUCCESS) {
                modal_scrub(m, m->build.text);
                result_set(&r, RESULT_INVALID, "image %s cannot be built: %s", m->image,
                           *m->build.text ? m->build.text : modal_result_name(m->build.status));
        }
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
        struct grpc_status status = { .code = GRPC_INTERNAL, .message = "out of memory" };

        if (modal_call_start(m,
                             &(struct modal_call_spec){
                                     .method = "ImageJoinStreaming",
                                     .lane = HTTP_STREAMS,
                                     .attempt_us = 2 * (int64_t)BUILD_WAIT_SECS * USEC_PER_SEC,
                                     .patience_us = BUILD_PATIENCE_US,
                                     .message_max = MODAL_MESSAGE_MAX,
                                     .pack = pack_build,
                                     .message = on_build_message,
                                     .done = on_build_done,
                             },
                             m, &m->call) < 0)
                not_ready(m, &status, "building image", m->image);
}

static int pack_image(void *owner, struct buf *out) {
        struct modal *m = owner;

        return modal_pack_image(out, m->app_id, m->builder_version, m->commands, m->n_commands);
}

static void on_image(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal *m = owner;

        m->call = NULL;
        if (status->code == GRPC_OK && modal_read_image(reply, len, &m->image_id, &m->build) < 0)
                status = &unreadable;
        if (status->code != GRPC_OK)
                not_ready(m, status, "image", m->image);
        else if (m->build.status != MODAL_RESULT_NONE)
                image_done(m);
        else
                follow_build(m);
}

static void next_step(struct modal *m) {
        if (!m->builder_version) {
                ask(m, "EnvironmentGetOrCreate", pack_environment, on_environment);
        } else if (!m->app_id) {
                ask(m, "AppGetOrCreate", pack_app, on_app);
        } else if (m->next < m->n_secrets) {
                ask(m, "SecretGetOrCreate", pack_secret, on_secret);
        } else if (m->next < m->n_secrets + m->n_volumes) {
                ask(m, "VolumeGetOrCreate", pack_volume, on_volume);
        } else {
                m->definition.app_id = m->app_id;
                ask(m, "ImageGetOrCreate", pack_image, on_image);
        }
}

static int modal_start(struct backend *b) {
        struct modal *m = modal_of(b);

        return modal_call_start(m,
                                &(struct modal_call_spec){
                                        .method = "EnvironmentGetOrCreate",
                                        .lane = HTTP_CALLS,
                                        .attempt_us = CALL_TIMEOUT_US,
                                        .tries = CALL_TRIES,
                                        .patience_us = CREATE_PATIENCE_US,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack_environment,
                                        .done = on_environment,
                                },
                                m, &m->call);
}

static void modal_free(struct backend *b) {
        struct modal *m = modal_of(b);

        if (m->call)
                modal_call_cancel(m->call);
        http_free(m->http);
        modal_settings_deinit(m);
        modal_credentials_deinit(&m->credentials);
        buf_deinit(&m->build_line);
        free(m->builder_version);
        free(m->app_id);
        free(m->image_id);
        free(m->entry_id);
        free(m);
}

static const struct backend_ops modal_ops = {
        .name = "modal",
        .start = modal_start,
        .free = modal_free,
        .create = modal_create,
        .destroy = modal_destroy,
        .clean = modal_clean,
        .exec = modal_exec,
        .exec_signal = modal_exec_signal,
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

/* The same for each mount of this place by this user of this machine. */
static void name_pool(struct modal *m, const char *mountpoint) {
        char host[256] = "", key[4600];
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        if (gethostname(host, sizeof(host) - 1) < 0)
                host[0] = '\0';
        snprintf(key, sizeof(key), "%s\n%s\n%u", host, mountpoint, (unsigned)geteuid());
        for (const char *c = key; *c; c++)
                hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
        snprintf(m->pool_id, sizeof(m->pool_id), "%016" PRIx64, hash);
        make_tag(m->host, host);
        make_tag(m->mount, mountpoint);
}

int modal_new(struct backend **out, uv_loop_t *loop, const struct modal_options *o, struct result *why) {
        struct modal *m = calloc(1, sizeof(*m));
        const char *cafile = o->cafile && *o->cafile ? o->cafile : NULL;
        int r;

        if (!m)
                return -ENOMEM;
        m->backend.ops = &modal_ops;
        m->loop = loop;
        m->build_line = (struct buf)BUF_INIT(EVENT_LEN_MAX);
        name_pool(m, o->mountpoint ? o->mountpoint : "");
        r = modal_settings_init(m, o, why);
        if (r == 0)
                r = modal_credentials_init(&m->credentials,
                                           &(struct modal_given){
                                                   .file = o->config_file,
                                                   .profile = o->profile,
                                                   .server_url = o->server_url,
                                                   .token_id = o->token_id,
                                                   .token_secret = o->token_secret,
                                                   .environment = o->environment,
                                           },
                                           why);
        if (r == 0)
                r = http_new(&m->http, loop, cafile, why);
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
