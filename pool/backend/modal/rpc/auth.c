/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/rpc/auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/rpc/jwt.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define DEFAULT_LIFE_US (20 * 60 * USEC_PER_SEC)   /* of a token that says no end */
#define RENEW_AGAIN_US (60 * USEC_PER_SEC)         /* after a renewal that failed */
#define RENEW_TIMEOUT_US (CALL_TIMEOUT_US / 2)     /* for one, while the old token holds */

static struct modal_auth *auth_of(const struct modal_endpoint *e) {
        return container_of((struct modal_endpoint *)e, struct modal_auth, endpoint);
}

static int metadata(const struct modal_endpoint *e, const struct modal_try *try, struct modal_metadata *out) {
        const struct modal_auth *a = auth_of(e);
        int r = a->plain->ops->metadata(a->plain, try, out);

        return r < 0 ? r : modal_metadata_add(out, "x-modal-auth-token: %s", a->token.text);
}

static bool holds(const struct modal_auth *a, int64_t until_wall_us) {
        return a->token.text && clock_read_us(CLOCK_REALTIME) < until_wall_us;
}

static bool is_ready(const struct modal_endpoint *e) {
        return !auth_of(e)->fetching && holds(auth_of(e), auth_of(e)->renew_wall_us);
}

/* A token that is over by our clock, which may be wrong, is used until it is refused, lest each call asks for one. */
static void note_expiry(struct modal_auth *a, int64_t expires_wall_us) {
        int64_t now = clock_read_us(CLOCK_REALTIME), life = expires_wall_us ? expires_wall_us - now : DEFAULT_LIFE_US;

        a->expires_wall_us = life > 0 ? now + life : USEC_NEVER;
        a->renew_wall_us = life > 0 ? now + life / 2 + life / 16 : USEC_NEVER;
}

static int take_token(struct modal_auth *a, const void *reply, size_t len) {
        char *token;
        int r = modal_read_token(reply, len, &token);
        int64_t expires = r == 0 ? jwt_expiry(token, strlen(token)) : r;

        if (r < 0)
                return r;
        if (expires < 0 || !modal_metadata_is_value(token)) {
                free(token);
                return -EBADMSG;
        }
        modal_secret_set(&a->token, a->plain->client, token);
        a->endpoint.generation++;
        note_expiry(a, expires);
        return 0;
}

static int pack(void *owner, struct buf *out) {
        return 0; /* the request has no fields */
}

static void on_token(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        static const struct grpc_status ok = { .code = GRPC_OK, .retry_after_us = -1 };
        struct modal_auth *a = owner;

        a->fetching = NULL;
        if (status->code == GRPC_OK && take_token(a, reply, len) < 0)
                status = MODAL_UNREADABLE("AuthTokenGet");
        if (status->code != GRPC_OK && holds(a, a->expires_wall_us)) {
                a->renew_wall_us = clock_read_us(CLOCK_REALTIME) + RENEW_AGAIN_US;
                status = &ok;
        }
        modal_endpoint_answer(&a->endpoint, status);
}

static int fetch(struct modal_endpoint *e) {
        struct modal_auth *a = auth_of(e);
        bool ahead;

        if (a->fetching)
                return 0;
        if (is_ready(e))
                modal_secret_drop(&a->token); /* it was refused */
        ahead = holds(a, a->expires_wall_us);
        return modal_call_start(a->plain,
                                &(struct modal_call_spec){
                                        .method = "AuthTokenGet",
                                        .group = HTTP_CALLS,
                                        .attempt_us = ahead ? RENEW_TIMEOUT_US : CALL_TIMEOUT_US,
                                        .tries = CALL_TRIES,
                                        .retry_for_us = ACCESS_RETRY_US,
                                        .once = ahead,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack,
                                        .done = on_token,
                                },
                                a, &a->fetching);
}

void modal_auth_init(struct modal_auth *a, struct modal_endpoint *plain) {
        *a = (struct modal_auth){ .plain = plain, .ops = *plain->ops };
        a->ops.metadata = metadata;
        a->ops.is_ready = is_ready;
        a->ops.fetch = fetch;
        modal_endpoint_init(&a->endpoint, &a->ops, plain->client);
        a->endpoint.url = plain->url;
}

void modal_auth_deinit(struct modal_auth *a) {
        if (a->fetching)
                modal_call_cancel(TAKE_PTR(a->fetching));
        modal_secret_drop(&a->token);
}
