/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/internal.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/rpc/jwt.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

void modal_router_init(struct modal_router *r, struct modal *m, const char *task_id,
                       void (*gone)(struct modal_router *, const struct grpc_status *)) {
        *r = (struct modal_router){ .modal = m, .task_id = task_id, .gone = gone };
        list_init(&r->waiting);
}

void modal_router_deinit(struct modal_router *r) {
        if (r->fetching)
                modal_call_cancel(TAKE_PTR(r->fetching));
        if (r->jwt)
                explicit_bzero(r->jwt, strlen(r->jwt));
        free(r->url);
        free(r->jwt);
        r->url = r->jwt = NULL;
}

bool modal_router_is_ready(const struct modal_router *r) {
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
static int check_access(const struct modal *m, const char *url, const char *jwt, struct result *why) {
        bool plain;
        int r = http_check_url(url, &plain, why);

        if (r == 0 && plain && !m->client.credentials.plain) {
                result_set(why, RESULT_INVALID, "%s: plain http, though %s is not", url, m->client.credentials.server_url);
                r = -EINVAL;
        }
        for (const char *c = jwt; *c && r == 0; c++)
                if (*c <= ' ' || *c >= 0x7f) {
                        result_set(why, RESULT_INVALID, "the token for %s has characters that no token has", url);
                        r = -EINVAL;
                }
        return r;
}

static int take_access(struct modal_router *r, const void *reply, size_t len, struct result *why) {
        char *url, *jwt;
        int n = modal_read_access(reply, len, &url, &jwt);

        if (n < 0) {
                result_set(why, RESULT_FAILED, "%s", strerror(-n));
                return n;
        }
        n = check_access(r->modal, url, jwt, why);
        if (n < 0) {
                free(url);
                free(jwt);
                return n;
        }
        if (r->url && strcmp(r->url, url)) {
                log_info("task=%s: its router is now at %s", r->task_id, url);
                r->holds = false; /* it may be another program */
        }
        free(r->url);
        free(r->jwt);
        r->url = url;
        r->jwt = jwt;
        r->generation++;
        note_expiry(r);
        return 0;
}

static int pack_access(void *owner, struct buf *out) {
        struct modal_router *r = owner;

        return modal_pack_access(out, r->task_id);
}

static void on_access(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_router *r = owner;
        struct grpc_status bad;
        struct list calls = LIST_INIT(calls);
        struct modal_call *c;
        struct result why;

        r->fetching = NULL;
        if (status->code == GRPC_OK && take_access(r, reply, len, &why) < 0) {
                bad = (struct grpc_status){ .code = GRPC_INTERNAL, .cause = HTTP_REFUSED, .retry_after_us = -1 };
                snprintf(bad.message, sizeof(bad.message), "the router's address: %.200s", why.text);
                status = &bad;
        }
        list_move_all(&calls, &r->waiting);
        while ((c = modal_call_first(&calls)))
                modal_call_go_on(c, status);
        if (status->code == GRPC_NOT_FOUND || status->code == GRPC_FAILED_PRECONDITION)
                r->gone(r, status);
}

int modal_router_fetch(struct modal_router *r) {
        if (r->fetching)
                return 0;
        return modal_call_start(r->modal,
                                &(struct modal_call_spec){
                                        .method = "TaskGetCommandRouterAccess",
                                        .lane = HTTP_CALLS,
                                        .attempt_us = CALL_TIMEOUT_US,
                                        .tries = CALL_TRIES,
                                        .patience_us = ACCESS_PATIENCE_US,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack_access,
                                        .done = on_access,
                                },
                                r, &r->fetching);
}
