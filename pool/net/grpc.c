/* SPDX-License-Identifier: MIT */
#include "pool/net/grpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define METADATA_MAX 24                     /* lines */
#define ANSWER_GRACE_US (3 * USEC_PER_SEC)  /* for the server's own DEADLINE_EXCEEDED to arrive */

struct grpc_call {
        const struct grpc_events *events;
        void *owner;
        struct http_request *request;
        struct grpc_headers headers;
        struct grpc_frames frames;
        int refused;    /* -errno: why the body was not taken */
        unsigned n_taken; /* messages, in this turn of the loop */
        bool delivering; /* inside message() */
        bool cancelled;  /* there, so that the memory has to stay until it returns */
};

static void call_free(struct grpc_call *c) {
        grpc_frames_deinit(&c->frames);
        free(c);
}

static void on_header(void *owner, const char *line, size_t len) {
        struct grpc_call *c = owner;
        struct grpc_header header;

        grpc_headers_line(&c->headers, line, len);
        if (c->events->metadata && grpc_header_split(&header, line, len))
                c->events->metadata(c->owner, &header);
}

static int take_message(void *owner, const void *message, size_t len) {
        struct grpc_call *c = owner;
        int r;

        c->delivering = true;
        r = c->events->message(c->owner, message, len);
        c->delivering = false;
        if (c->cancelled)
                return -ECANCELED;
        return r < 0 ? r : ++c->n_taken == GRPC_TURN_MESSAGES;
}

static ssize_t on_data(void *owner, const void *data, size_t len) {
        struct grpc_call *c = owner;
        ssize_t r;

        /* The body of an error page is not for us. */
        if (!c->headers.is_grpc)
                return len;
        c->n_taken = 0;
        r = grpc_frames_push(&c->frames, data, len, take_message, c);
        if (c->cancelled)
                call_free(c);
        else if (r < 0)
                c->refused = r;
        return r;
}

/* What gRPC says of responses that are not gRPC. */
static int code_of_http(int status) {
        switch (status) {
        case 400:
                return GRPC_INTERNAL;
        case 401:
                return GRPC_UNAUTHENTICATED;
        case 403:
                return GRPC_PERMISSION_DENIED;
        case 404:
                return GRPC_UNIMPLEMENTED;
        case 429:
        case 502:
        case 503:
        case 504:
                return GRPC_UNAVAILABLE;
        default:
                return GRPC_UNKNOWN;
        }
}

static void set_status(struct grpc_status *s, int code, enum http_error cause, const char *message) {
        s->code = code;
        s->cause = cause;
        snprintf(s->message, sizeof(s->message), "%s", message);
}

static void status_of_transport(struct grpc_status *s, const struct http_outcome *o) {
        switch (o->error) {
        case HTTP_TIMEOUT:
                set_status(s, GRPC_DEADLINE_EXCEEDED, o->error, o->text);
                break;
        case HTTP_REFUSED:
                set_status(s, GRPC_INTERNAL, o->error, o->text);
                break;
        default:
                set_status(s, GRPC_UNAVAILABLE, o->error, o->text);
                break;
        }
}

static void find_status(const struct grpc_call *c, const struct http_outcome *o, struct grpc_status *s) {
        const struct grpc_headers *h = &c->headers;
        char text[64];

        *s = (struct grpc_status){ .retry_after_us = h->retry_after_us };
        if (c->refused == -EPROTO) {
                set_status(s, GRPC_INTERNAL, HTTP_BROKEN, "the answer breaks the protocol");
        } else if (c->refused) {
                snprintf(text, sizeof(text), "an answer that cannot be taken: %s", strerror(-c->refused));
                set_status(s, GRPC_INTERNAL, HTTP_REFUSED, text);
        } else if (h->has_status && (h->code != GRPC_OK || grpc_frames_whole(&c->frames))) {
                /* Trailers end a stream; what happens to the connection then is no matter. */
                set_status(s, h->code, HTTP_OK, h->message);
        } else if (o->error != HTTP_OK) {
                status_of_transport(s, o);
        } else if (h->http_status != 200 || !h->is_grpc) {
                snprintf(text, sizeof(text), "the answer is not gRPC: HTTP status %d", h->http_status);
                set_status(s, h->http_status == 200 ? GRPC_UNKNOWN : code_of_http(h->http_status), HTTP_OK, text);
        } else {
                set_status(s, GRPC_UNAVAILABLE, HTTP_BROKEN, "the answer ended too early");
        }
}

static void on_done(void *owner, const struct http_outcome *outcome) {
        struct grpc_call *c = owner;
        const struct grpc_events *events = c->events;
        struct grpc_status status;

        find_status(c, outcome, &status);
        owner = c->owner;
        call_free(c);
        events->done(owner, &status);
}

static const struct http_events http_events = {
        .header = on_header,
        .data = on_data,
        .done = on_done,
};

int grpc_start(struct http *http, const struct grpc_spec *spec, const struct grpc_events *events, void *owner,
               struct grpc_call **out) {
        char timeout[32] = "grpc-timeout: ";
        const char *headers[METADATA_MAX + 4];
        _cleanup_(cleanup_free) char *url = NULL;
        unsigned char head[5];
        struct grpc_call *c;
        size_t n = 0, root = strlen(spec->url);
        int r;

        headers[n++] = "content-type: application/grpc";
        headers[n++] = "te: trailers";
        if (spec->timeout_us > 0) {
                grpc_timeout_format(spec->timeout_us, timeout + strlen(timeout));
                headers[n++] = timeout;
        }
        for (const char *const *m = spec->metadata; *m; m++) {
                if (m - spec->metadata == METADATA_MAX)
                        return -E2BIG;
                headers[n++] = *m;
        }
        headers[n] = NULL;

        while (root > 0 && spec->url[root - 1] == '/')
                root--;
        if (asprintf(&url, "%.*s%s", (int)root, spec->url, spec->method) < 0)
                return -ENOMEM;
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->events = events;
        c->owner = owner;
        grpc_headers_init(&c->headers);
        grpc_frames_init(&c->frames, spec->message_max);
        grpc_frame_head(head, spec->len);
        r = http_start(http,
                       &(struct http_spec){
                               .url = url,
                               .headers = headers,
                               .body = head,
                               .body_len = sizeof(head),
                               .body2 = spec->message,
                               .body2_len = spec->len,
                               .timeout_us = spec->timeout_us && !spec->patient ? spec->timeout_us + ANSWER_GRACE_US : 0,
                               .group = spec->group,
                       },
                       &http_events, c, &c->request);
        if (r < 0) {
                call_free(c);
                return r;
        }
        *out = c;
        return 0;
}

void grpc_cancel(struct grpc_call *c) {
        http_cancel(c->request);
        if (c->delivering)
                c->cancelled = true;
        else
                call_free(c);
}

long grpc_connection(const struct grpc_call *c) {
        return http_connection(c->request);
}
