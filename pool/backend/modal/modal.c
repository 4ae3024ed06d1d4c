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

/* errors */

const struct grpc_status modal_no_memory = { .code = GRPC_INTERNAL, .message = "out of memory", .retry_after_us = -1 };

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
        case HTTP_STARVED:
                result_set(r, RESULT_FAILED, "%s: no connection to %s could be made: %s", head, server, said);
                break;
        case HTTP_UNREACHABLE:
                result_set(r, RESULT_FAILED, "%s: no connection to %s: %s", head, server, said);
                break;
        case HTTP_UNTRUSTED:
                result_set(r, RESULT_FAILED,
                           "%s: the certificate of %s is not trusted: %s (cafile= or SSL_CERT_FILE names "
                           "authorities to trust)",
                           head, server, said);
                break;
        case HTTP_RESET:
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
                modal_explain(m, &r, status, "listing the sandboxes of this pool");
        backend_listed(&m->backend, &r);
}

static int modal_list(struct backend *b) {
        struct modal *m = modal_of(b);

        return modal_listing_start(m, &m->listing,
                                   &(struct modal_listing_spec){
                                           .tag = { MODAL_TAG_POOL, m->pool_id },
                                           .want = MODAL_TAG_CREATE,
                                           .attempt_us = CALL_TIMEOUT_US,
                                           .patience_us = CREATE_PATIENCE_US,
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
        http_free(m->http);
        modal_settings_deinit(m);
        modal_credentials_deinit(&m->credentials);
        buf_deinit(&m->build_line);
        free(m->last_line);
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
        const char *cafile = o->cafile && *o->cafile ? o->cafile : NULL;
        int r;

        if (!m)
                return -ENOMEM;
        m->backend.ops = &modal_ops;
        m->loop = loop;
        list_init(&m->unlooked);
        m->build_line = (struct buf)BUF_INIT(EVENT_LEN_MAX);
        r = name_pool(m, o, why);
        if (r == 0)
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
