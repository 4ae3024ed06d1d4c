/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * HTTP/2 requests by libcurl on the loop.
 *
 *   request   started → finished    done() once, unless it was cancelled before
 *
 * Requests go by one of two groups of connections, each a curl multi handle with connections
 * of its own: short calls must not wait behind hundreds of open streams. Each
 * request has a deadline of our own, because curl's does not fire for one that
 * waits for a connection (7.88), and a connection whose request passed it is cut
 * off: then whatever else hangs on it learns of that too.
 *
 * No event comes from inside http_start(), and none after http_cancel().
 * header() comes from inside curl, but may start and cancel any request; all
 * others come from the loop.
 *
 * What curl reads in one go may take seconds to be taken. So the bodies are kept
 * until they are given, and one turn of the loop gives at most so much of them,
 * the requests taking turns. Meanwhile the group is not driven and its sockets are
 * not read: memory holds no more than what curl read before, and TCP holds back
 * the peer. Transfers are never paused: that is broken in many versions of curl.
 *
 * The server's certificate is always verified; plain http goes to loopback only.
 *
 * Owned by one user, on one loop; its handles do not keep the loop alive.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "pool/util/result.h"

#define HTTP_TURN_BYTES (256 << 10) /* of bodies that are given at one time, of each group */

struct http;
struct http_request;

enum http_group {
        HTTP_CALLS,   /* answered soon */
        HTTP_STREAMS, /* open for as long as something runs */
        HTTP_N_GROUPS,
};

enum http_error {
        HTTP_OK,          /* there is a response, whatever it says */
        HTTP_TIMEOUT,     /* the deadline passed */
        HTTP_STARVED,     /* this machine had no descriptor for a connection: nothing was sent */
        HTTP_UNREACHABLE, /* no connection: nothing was sent */
        HTTP_UNTRUSTED,   /* the server's certificate, or our list of authorities */
        HTTP_REFUSED,     /* by data(), or because the request cannot be made at all */
        HTTP_RESET,       /* the server ended the stream without an answer; the connection is as it was */
        HTTP_BROKEN,      /* the connection or the stream broke */
};

struct http_outcome {
        enum http_error error;
        char text[256]; /* the cause in words, when there is one */
};

struct http_events {
        /* A line of the response's head or trailers, without its end. */
        void (*header)(void *owner, const char *line, size_t len);
        /*
         * Bytes of the body. It returns how many of them it took: what it left comes again in a later turn of the loop.
         * -errno ends the request: HTTP_REFUSED.
         */
        ssize_t (*data)(void *owner, const void *data, size_t len);
        void (*done)(void *owner, const struct http_outcome *outcome);
};

/* Everything is copied. */
struct http_spec {
        const char *url;
        const char *const *headers; /* "name: value", NULL at the end */
        const void *body;           /* in two parts, sent one after the other */
        size_t body_len;
        const void *body2;
        size_t body2_len;
        int64_t timeout_us; /* 0: none */
        enum http_group group;
};

/*
 * @cafile: authorities to trust beside the system's directory; NULL: the
 * system's. 0, or -errno with @why.
 */
int http_new(struct http **out, uv_loop_t *loop, const char *cafile, struct result *why);

/* Cancels what is under way. The memory goes with the next turns of the loop. NULL is fine. */
void http_free(struct http *h);

/* 0 or -errno; then done() comes, once. */
int http_start(struct http *h, const struct http_spec *spec, const struct http_events *events, void *owner,
               struct http_request **out);

void http_cancel(struct http_request *q);

/* Tells the connection that it uses from others; 0: none yet, or one of its own. */
long http_connection(const struct http_request *q);

/*
 * @url has to be the address of a server: http or https, a host, perhaps a port, and nothing behind them; http to this
 * machine only. *@plain: it is http. 0, or -EINVAL or -ENOMEM with @why.
 */
int http_check_url(const char *url, bool *plain, struct result *why);
