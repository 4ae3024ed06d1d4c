/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/client.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

const struct grpc_status modal_no_memory = { .code = GRPC_INTERNAL, .message = "out of memory", .retry_after_us = -1 };

void modal_secret_set(struct modal_secret *s, struct modal_client *c, char *text) {
        modal_secret_drop(s);
        s->text = text;
        if (text && *text)
                list_add_tail(&c->secrets, &s->link);
        else
                free(TAKE_PTR(s->text));
}

void modal_secret_drop(struct modal_secret *s) {
        if (!s->text)
                return;
        list_remove(&s->link);
        explicit_bzero(s->text, strlen(s->text));
        free(TAKE_PTR(s->text));
}

/* A text that was cut may end in a part of a secret. */
static void scrub_end(char *text, const char *secret) {
        size_t len = strlen(text);

        for (size_t n = strlen(secret); n >= SECRET_PART_MIN; n--)
                if (n <= len && memcmp(text + len - n, secret, n) == 0) {
                        memset(text + len - n, '*', n);
                        return;
                }
}

static void scrub(char *text, const char *secret) {
        for (char *at = text; *secret && (at = strstr(at, secret));) {
                size_t len = strlen(secret);

                /* What a token begins with, to its end. */
                while (isalnum((unsigned char)at[len]) || (at[len] && strchr("-_.=", at[len])))
                        len++;
                memset(at, '*', len);
                at += len;
        }
        scrub_end(text, secret);
}

/* Whatever a server puts into its messages, no secret of ours gets any further. */
void modal_client_scrub(const struct modal_client *c, char *text) {
        const struct modal_secret *s;

        scrub(text, c->credentials.token_secret);
        scrub(text, c->credentials.token_id);
        scrub(text, "eyJ"); /* any JSON web token */
        list_for_each (s, &c->secrets, link)
                scrub(text, s->text);
}

void modal_client_take_warning(struct modal_client *c, const char *value, size_t len) {
        char text[WARNING_READ_MAX];

        grpc_percent_decode(value, len, text, sizeof(text));
        modal_client_scrub(c, text);
        text_show(text, WARNING_LEN_MAX, text, strlen(text)); /* only now: a secret that is cut would not be found */
        if (text[strspn(text, " ")] && modal_warnings_add(&c->warnings, text, clock_now()) && c->warned)
                c->warned(c, text);
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

void modal_client_explain(const struct modal_client *c, struct result *r, const struct grpc_status *status,
                          const char *what, ...) {
        char head[320], said[GRPC_MESSAGE_TEXT_MAX];
        const char *server = c->credentials.server_url;
        va_list ap;

        va_start(ap, what);
        vsnprintf(head, sizeof(head), what, ap);
        va_end(ap);
        snprintf(said, sizeof(said), "%s", *status->message ? status->message : grpc_code_name(status->code));
        modal_client_scrub(c, said);
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

int modal_client_init(struct modal_client *c, uv_loop_t *loop, const struct modal_client_options *o,
                      struct result *why) {
        int r;

        c->loop = loop;
        list_init(&c->secrets);
        r = modal_credentials_init(&c->credentials, o, why);
        return r < 0 ? r : http_new(&c->http, loop, *o->cafile ? o->cafile : NULL, why);
}

void modal_client_deinit(struct modal_client *c) {
        http_free(c->http);
        modal_credentials_deinit(&c->credentials);
}
