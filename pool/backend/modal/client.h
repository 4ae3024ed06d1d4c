/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The connection to Modal: who we are, the HTTP connections, what calls and sandboxes came to, and what went wrong in words.
 *
 * It is the bottom of the Modal backend: it knows no call, no sandbox and no pool. A mount needs one, whatever the
 * number of its pools; its owner keeps it until the last call over it has ended or was cancelled.
 */

#include <uv.h>

#include "pool/backend/modal/config/credentials.h"
#include "pool/backend/modal/ends.h"
#include "pool/backend/modal/rpc/counts.h"
#include "pool/backend/modal/warnings.h"
#include "pool/net/grpc.h"
#include "pool/net/http.h"
#include "pool/util/list.h"
#include "pool/util/result.h"

/* A token that Modal gave us: no text shows it as long as it is here. Of zeros before the first use. */
struct modal_secret {
        char *text; /* NULL: none */
        struct list link;
};

struct modal_client {
        uv_loop_t *loop;
        struct http *http;
        struct modal_credentials credentials;
        struct modal_counts counts;
        struct list secrets;
        struct modal_ends ends;
        struct modal_warnings warnings;
        void (*warned)(struct modal_client *c, const char *text); /* of each new one; set by the owner, or NULL */
};

/* Of zeros. 0, or -errno with @why; what was made by then goes with deinit. */
int modal_client_init(struct modal_client *c, uv_loop_t *loop, const struct modal_client_options *o,
                      struct result *why);
void modal_client_deinit(struct modal_client *c);

/* @text is the secret's from now on, in place of an older one; NULL or "": none. */
void modal_secret_set(struct modal_secret *s, struct modal_client *c, char *text);
/* Wipe it. Twice is fine. */
void modal_secret_drop(struct modal_secret *s);

/* Take our secrets out of what a server said. */
void modal_client_scrub(const struct modal_client *c, char *text);

/* A warning as it comes in the metadata of an answer: percent-encoded, any bytes. */
void modal_client_take_warning(struct modal_client *c, const char *value, size_t len);

/*
 * A sentence for a failed call: "WHAT: what the other side said", with its result code and no
 * secret in it. @r may be the caller's own.
 */
void modal_client_explain(const struct modal_client *c, struct result *r, const struct grpc_status *status,
                          const char *what, ...) __attribute__((format(printf, 4, 5)));

/* The status in place of an OK whose message is not what it has to be. @method: a literal. */
#define MODAL_UNREADABLE(method)                                                                                \
        ({                                                                                                      \
                static const struct grpc_status unreadable = {                                                  \
                        .code = GRPC_INTERNAL,                                                                  \
                        .cause = HTTP_REFUSED,                                                                  \
                        .retry_after_us = -1,                                                                   \
                        .message = "an answer to " method " that cannot be taken",                              \
                };                                                                                              \
                &unreadable;                                                                                    \
        })

extern const struct grpc_status modal_no_memory;
