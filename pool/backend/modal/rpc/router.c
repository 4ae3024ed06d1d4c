/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/rpc/router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/rpc/jwt.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

static struct modal_router *router_of(const struct modal_endpoint *e) {
        return container_of((struct modal_endpoint *)e, struct modal_router, endpoint);
}

static int metadata(const struct modal_endpoint *e, const struct modal_try *try, struct modal_metadata *out) {
        return modal_metadata_add(out, "authorization: Bearer %s", router_of(e)->jwt);
}

static bool is_ready(const struct modal_endpoint *e) {
        const struct modal_router *r = router_of(e);

        return r->jwt && !r->fetching && clock_read_us(CLOCK_REALTIME) < r->renew_wall_us;
}

/* A token that ends soon anyhow is used until it is refused, lest each call asks for one. */
static void note_expiry(struct modal_router *r) {
        int64_t now = clock_read_us(CLOCK_REALTIME), exp = jwt_expiry(r->jwt, strlen(r->jwt));

        if (exp > now + 2 * JWT_MARGIN_US)
                r->renew_wall_us = exp - JWT_MARGIN_US;
        else
                r->renew_wall_us = USEC_NEVER;
}

/* Only who speaks to the control plane in the clear, on this machine, does so to a router. */
static int check_access(const struct modal_credentials *who, const char *url, const char *jwt, struct result *why) {
        bool plain;
        int r = http_check_url(url, &plain, why);

        if (r == 0 && plain && !who->plain) {
                result_set(why, RESULT_INVALID, "%s: plain http, though %s is not", url, who->server_url);
                r = -EINVAL;
        }
        if (r == 0 && !modal_metadata_is_value(jwt)) {
                result_set(why, RESULT_INVALID, "the token for %s has characters that no token has", url);
                r = -EINVAL;
        }
        return r;
}

static void take(struct modal_router *r, char *url, char *jwt) {
        if (r->url && strcmp(r->url, url)) {
                log_info("task=%s: its router is now at %s", r->identity->task_id, url);
                r->endpoint.peer++;
        }
        free(r->url);
        free(r->jwt);
        r->url = url;
        r->jwt = jwt;
        r->endpoint.url = url;
        r->endpoint.generation++;
        note_expiry(r);
}

int modal_router_take(struct modal_router *r, char *url, char *jwt, struct grpc_status *why) {
        struct result text;
        int n = check_access(&r->control->client->credentials, url, jwt, &text);

        if (n == 0) {
                take(r, url, jwt);
                return 0;
        }
        *why = (struct grpc_status){ .code = GRPC_INTERNAL, .cause = HTTP_REFUSED, .retry_after_us = -1 };
        snprintf(why->message, sizeof(why->message), "the router's address: %.200s", text.text);
        free(url);
        free(jwt);
        return n;
}

static int pack_access(void *owner, struct buf *out) {
        struct modal_router *r = owner;

        return modal_pack_access(out, modal_identity_is_v2(r->identity) ? r->identity->id : r->identity->task_id);
}

static void on_access(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_router *r = owner;
        struct grpc_status answer = *status;
        char *url, *jwt;

        r->fetching = NULL;
        if (status->code == GRPC_OK && modal_read_access(reply, len, &url, &jwt) < 0) {
                answer = *MODAL_UNREADABLE("a call for access to a router");
        } else if (status->code == GRPC_OK) {
                modal_router_take(r, url, jwt, &answer);
        } else if (status->code == GRPC_FAILED_PRECONDITION) {
                /* The task has ended: a call that wanted something of it does not find it. */
                answer.code = GRPC_NOT_FOUND;
                answer.retry_after_us = -1;
        }
        modal_endpoint_answer(&r->endpoint, &answer);
        if (answer.code == GRPC_NOT_FOUND)
                r->gone(r, &answer);
}

static int fetch(struct modal_endpoint *e) {
        struct modal_router *r = router_of(e);

        if (r->fetching)
                return 0;
        return modal_control_call(r->control, r->identity, "SandboxGetCommandRouterAccess",
                                  &(struct modal_call_spec){
                                          .method = "TaskGetCommandRouterAccess",
                                          .group = HTTP_CALLS,
                                          .attempt_us = CALL_TIMEOUT_US,
                                          .tries = CALL_TRIES,
                                          .retry_for_us = ACCESS_RETRY_US,
                                          .message_max = MODAL_MESSAGE_MAX,
                                          .pack = pack_access,
                                          .done = on_access,
                                  },
                                  r, &r->fetching);
}

static const struct modal_endpoint_ops router_ops = {
        .service = "/modal.task_command_router.TaskCommandRouter/",
        .delay_us = ROUTER_DELAY_MIN_US,
        .delay_max_us = ROUTER_DELAY_MAX_US,
        .moves = true,
        .metadata = metadata,
        .is_ready = is_ready,
        .fetch = fetch,
};

void modal_router_init(struct modal_router *r, struct modal_control *control, const struct modal_identity *identity,
                       void (*gone)(struct modal_router *router, const struct grpc_status *status)) {
        *r = (struct modal_router){ .control = control, .identity = identity, .gone = gone };
        modal_endpoint_init(&r->endpoint, &router_ops, control->client);
}

void modal_router_deinit(struct modal_router *r) {
        if (r->fetching)
                modal_call_cancel(TAKE_PTR(r->fetching));
        if (r->jwt)
                explicit_bzero(r->jwt, strlen(r->jwt));
        free(r->url);
        free(r->jwt);
        r->url = r->jwt = NULL;
        r->endpoint.url = NULL;
}
