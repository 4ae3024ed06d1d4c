/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One logical call: tries over an endpoint until one succeeds or no further one is worth it.
 *
 *   waiting    for access to the endpoint
 *   running    a try is under way
 *   delayed    the next try comes after a while
 *
 * All tries have the same idempotency key, where the endpoint wants one. An access that is refused is renewed.
 *
 * The call frees itself: it is gone when done() is called, or after a cancel.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/backend/modal/rpc/endpoint.h"
#include "pool/net/grpc.h"
#include "pool/util/buf.h"

struct modal_call;

/* Everything but the strings is copied; the method must be a literal. */
struct modal_call_spec {
        const char *method;          /* its short name */
        enum http_group group;
        int64_t attempt_us;  /* for one try; 0: none */
        int64_t retry_for_us; /* for all tries since something last went well */
        unsigned tries;      /* 0: any number in that time */
        bool poll;           /* the server holds its answer back: its DEADLINE_EXCEEDED only says not yet */
        const char *sandbox_token; /* goes with each try; borrowed until the end; NULL: none */
        bool once;           /* one try, whatever it comes to: the caller knows another way */
        size_t message_max;
        /* The request, anew for each try. */
        int (*pack)(void *owner, struct buf *out);
        /* Each message of a stream; NULL: exactly one comes, and done() gets it. */
        int (*message)(void *owner, const void *data, size_t len);
        void (*done)(void *owner, const struct grpc_status *status, const void *reply, size_t len);
};

/* 0 or -errno; then done() comes once, unless it is cancelled. */
int modal_call_start(struct modal_endpoint *e, const struct modal_call_spec *spec, void *owner,
                     struct modal_call **out);
void modal_call_cancel(struct modal_call *c);

/* As http_connection(), of the try under way; to be asked from inside message() too. */
long modal_call_connection(const struct modal_call *c);

/* For endpoints: the access came, or why not. All calls that wait for it go on, or try again later. */
void modal_endpoint_answer(struct modal_endpoint *e, const struct grpc_status *status);
