/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One gRPC call: a request message, any number of response messages, a status.
 *
 *   call   started → done    message() any number of times, done() once, unless cancelled before
 *
 * A call has succeeded only with grpc-status 0 and whole messages. A transport
 * that ends without a status, or in the middle of a message, is UNAVAILABLE;
 * our own deadline is DEADLINE_EXCEEDED. Trying again is for those above.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/net/grpc-wire.h"
#include "pool/net/http.h"

#define GRPC_TURN_MESSAGES 512 /* of one call in one turn of the loop */

struct grpc_call;

struct grpc_status {
        int code;               /* enum grpc_code */
        enum http_error cause;  /* of a status that no server sent; else HTTP_OK */
        int64_t retry_after_us; /* the server's wish, or -1 */
        char message[GRPC_MESSAGE_TEXT_MAX];
};

struct grpc_events {
        /* A header or trailer, whatever the call comes to. It must not cancel the call. NULL: they are not wanted. */
        void (*metadata)(void *owner, const struct grpc_header *header);
        /* -errno ends the call: INTERNAL. */
        int (*message)(void *owner, const void *message, size_t len);
        void (*done)(void *owner, const struct grpc_status *status);
};

/* Everything is copied. */
struct grpc_spec {
        const char *url;              /* scheme, host and port */
        const char *method;           /* "/package.Service/Method" */
        const char *const *metadata;  /* "name: value", NULL at the end */
        const void *message;
        size_t len;
        int64_t timeout_us;           /* the server's time, told to it; 0: none */
        bool patient;                 /* … but not enforced here: for a stream that is to be renewed now and then */
        size_t message_max;           /* bytes of one response message */
        enum http_group group;
};

/* 0 or -errno. */
int grpc_start(struct http *http, const struct grpc_spec *spec, const struct grpc_events *events, void *owner,
               struct grpc_call **out);
void grpc_cancel(struct grpc_call *c);

/* As http_connection(). */
long grpc_connection(const struct grpc_call *c);
