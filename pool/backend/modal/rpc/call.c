/* SPDX-License-Identifier: MIT */

/*
 * One logical call: tries until one succeeds or no further one is worth it.
 *
 *   waiting    for access to the router
 *   running    a try is under way
 *   delayed    the next try comes after a while
 *
 * To the control plane, all tries carry the same idempotency key. To a router, a
 * token that is refused is renewed, and a router that cannot be reached or does not
 * know the task is asked for anew, since it may have moved.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/internal.h"
#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/crash.h"
#include "pool/util/log.h"
#include "pool/util/uuid.h"

#define CONTROL_SERVICE "/modal.client.ModalClient/"
#define ROUTER_SERVICE "/modal.task_command_router.TaskCommandRouter/"
#define CLIENT_TYPE "9" /* as Modal's own native SDK for Go: there is none for C */
#define CLIENT_VERSION "1.0.0"
#define POLL_LEAST_US (USEC_PER_SEC / 2) /* a "not yet" that comes sooner is a failure */
#define RENEWALS_MAX 4                   /* refused tokens in a row */

struct modal_call {
        struct modal *modal;
        struct modal_call_spec spec;
        void *owner;
        struct list link;      /* in the router's waiting */
        struct grpc_call *grpc;
        uv_timer_t timer;
        struct retry retry;
        int64_t started_us;
        unsigned again;        /* tries because one had failed */
        int64_t began_us;      /* this try */
        unsigned generation;   /* of the access that this try used */
        unsigned renewals;     /* in a row, for refused tokens */
        bool asked_again;      /* the task was unknown, and access asked for again */
        bool whole;            /* exactly one message has come */
        struct buf reply;
        char key[37];
};

static void attempt(struct modal_call *c);

static void on_closed(uv_handle_t *handle) {
        free(handle->data);
}

static void release(struct modal_call *c, int code) {
        modal_counts_add(&c->modal->client.counts, c->spec.method, code, c->again, clock_now() - c->started_us);
        list_remove(&c->link);
        if (c->grpc)
                grpc_cancel(TAKE_PTR(c->grpc));
        uv_close((uv_handle_t *)&c->timer, on_closed);
}

/* What the server said, fit for a log. */
static const char *said(const struct modal_call *c, const struct grpc_status *status, char text[GRPC_MESSAGE_TEXT_MAX]) {
        snprintf(text, GRPC_MESSAGE_TEXT_MAX, "%s", status->message);
        modal_client_scrub(&c->modal->client, text);
        return text;
}

static void finish(struct modal_call *c, const struct grpc_status *status) {
        struct buf reply = c->reply;
        char text[GRPC_MESSAGE_TEXT_MAX];

        log_debug("modal: %s: %s%s%s", c->spec.method, grpc_code_name(status->code), *status->message ? ": " : "",
                  said(c, status, text));
        release(c, status->code);
        c->spec.done(c->owner, status, buf_text(&reply), reply.len);
        buf_deinit(&reply);
}

static void fail_locally(struct modal_call *c, int r) {
        struct grpc_status status = { .code = GRPC_INTERNAL, .cause = HTTP_REFUSED, .retry_after_us = -1 };

        snprintf(status.message, sizeof(status.message), "%s", strerror(-r));
        finish(c, &status);
}

static void on_timer(uv_timer_t *timer) {
        attempt(timer->data);
}

/* The try failed: wait for the next one, or give up. */
static void try_again(struct modal_call *c, const struct grpc_status *status) {
        int64_t delay = c->spec.once ? -1 : retry_next(&c->retry, status, clock_now());
        char text[GRPC_MESSAGE_TEXT_MAX];

        if (delay < 0) {
                finish(c, status);
                return;
        }
        c->again++;
        log_debug("modal: %s: %s: %s; again in %lld ms", c->spec.method, grpc_code_name(status->code),
                  said(c, status, text), (long long)(delay / USEC_PER_MSEC));
        uv_timer_start(&c->timer, on_timer, (delay + 999) / 1000, 0);
}

/* Wait for access, which is asked for unless somebody did since our try. */
static void wait_for_access(struct modal_call *c, bool renew) {
        struct modal_router *router = c->spec.router;
        int r = 0;

        list_add_tail(&router->waiting, &c->link);
        if (renew ? c->generation == router->generation : !modal_router_is_ready(router))
                r = modal_router_fetch(router);
        else if (!router->fetching)
                uv_timer_start(&c->timer, on_timer, 0, 0);
        if (r < 0)
                fail_locally(c, r);
}

void modal_call_go_on(struct modal_call *c, const struct grpc_status *status) {
        list_remove(&c->link);
        if (status->code == GRPC_OK) {
                attempt(c);
                return;
        }
        if (status->code == GRPC_FAILED_PRECONDITION) {
                /* The task has ended: to who wanted something of it, it is not found. */
                struct grpc_status gone = *status;

                gone.code = GRPC_NOT_FOUND;
                finish(c, &gone);
                return;
        }
        try_again(c, status);
}

struct modal_call *modal_call_first(struct list *waiting) {
        return list_first(waiting, struct modal_call, link);
}

/* What to do about a failed try, as far as it is the router's affair. True: it is taken care of. */
static bool look_for_router(struct modal_call *c, const struct grpc_status *status) {
        if (!c->spec.router)
                return false;
        if (status->code == GRPC_UNAUTHENTICATED && c->renewals < RENEWALS_MAX) {
                c->renewals++;
                c->again++;
                wait_for_access(c, true);
                return true;
        }
        if (status->code == GRPC_NOT_FOUND && !c->asked_again) {
                c->asked_again = true;
                c->again++;
                wait_for_access(c, true);
                return true;
        }
        /* It may have moved: the next try, after its delay, goes where it then is. */
        if (status->cause == HTTP_UNREACHABLE && c->generation == c->spec.router->generation)
                (void)modal_router_fetch(c->spec.router);
        return false;
}

static void on_status(void *owner, const struct grpc_status *status) {
        struct modal_call *c = owner;
        int64_t now = clock_now();
        struct grpc_status none;

        crash_point(c->spec.method, "was answered");
        c->grpc = NULL;
        if (status->code == GRPC_OK && (c->spec.message || c->whole)) {
                finish(c, status);
                return;
        }
        if (status->code == GRPC_OK) {
                none = (struct grpc_status){ .code = GRPC_INTERNAL, .cause = HTTP_BROKEN, .retry_after_us = -1 };
                snprintf(none.message, sizeof(none.message), "the answer is not exactly one message");
                status = &none;
        }
        if (c->spec.poll && !c->spec.once && status->code == GRPC_DEADLINE_EXCEEDED && status->cause == HTTP_OK &&
            now - c->began_us >= POLL_LEAST_US) {
                retry_reset(&c->retry, now);
                c->renewals = 0;
                attempt(c);
                return;
        }
        /* A stream that was open for a while was in order, though it may have had nothing to say. */
        if (c->spec.message && now - c->began_us >= STREAM_GOOD_US)
                retry_reset(&c->retry, now);
        if (c->spec.once || !look_for_router(c, status))
                try_again(c, status);
}

static int on_message(void *owner, const void *data, size_t len) {
        struct modal_call *c = owner;
        int r;

        crash_point(c->spec.method, "gives a message");
        c->renewals = 0;
        if (c->spec.message) {
                c->asked_again = false;
                retry_reset(&c->retry, clock_now());
                return c->spec.message(c->owner, data, len);
        }
        if (c->whole)
                return -EPROTO;
        r = buf_append(&c->reply, data, len);
        c->whole = r == 0;
        return r;
}

static const struct grpc_events grpc_events = {
        .message = on_message,
        .done = on_status,
};

/* One try to where it has to go. */
static int send_request(struct modal_call *c) {
        const struct modal_credentials *who = &c->modal->client.credentials;
        struct modal_router *router = c->spec.router;
        _cleanup_(cleanup_free) char *first = NULL, *second = NULL;
        char method[160], key[64], attempts[40], throttled[48];
        struct buf message = BUF_INIT(MODAL_REQUEST_MAX);
        const char *metadata[8];
        size_t n = 0;
        int r;

        snprintf(method, sizeof(method), "%s%s", router ? ROUTER_SERVICE : CONTROL_SERVICE, c->spec.method);
        if (router) {
                if (asprintf(&first, "authorization: Bearer %s", router->jwt) < 0)
                        return -ENOMEM;
                metadata[n++] = first;
        } else {
                if (asprintf(&first, "x-modal-token-id: %s", who->token_id) < 0 ||
                    asprintf(&second, "x-modal-token-secret: %s", who->token_secret) < 0)
                        return -ENOMEM;
                snprintf(key, sizeof(key), "x-idempotency-key: %s", c->key);
                snprintf(attempts, sizeof(attempts), "x-retry-attempt: %u", c->retry.failures);
                snprintf(throttled, sizeof(throttled), "x-throttle-retry-attempt: %u", c->retry.throttled);
                metadata[n++] = "x-modal-client-type: " CLIENT_TYPE;
                metadata[n++] = "x-modal-client-version: " CLIENT_VERSION;
                metadata[n++] = first;
                metadata[n++] = second;
                metadata[n++] = key;
                metadata[n++] = attempts;
                metadata[n++] = throttled;
        }
        metadata[n] = NULL;

        crash_point(c->spec.method, "is sent");
        r = c->spec.pack(c->owner, &message);
        if (r == 0)
                r = grpc_start(c->modal->client.http,
                               &(struct grpc_spec){
                                       .url = router ? router->url : who->server_url,
                                       .method = method,
                                       .metadata = metadata,
                                       .message = buf_text(&message),
                                       .len = message.len,
                                       .timeout_us = c->spec.attempt_us,
                                       .patient = c->spec.poll && c->spec.message != NULL,
                                       .message_max = c->spec.message_max,
                                       .lane = c->spec.lane,
                               },
                               &grpc_events, c, &c->grpc);
        buf_deinit(&message);
        if (first)
                explicit_bzero(first, strlen(first));
        if (second)
                explicit_bzero(second, strlen(second));
        return r;
}

static void attempt(struct modal_call *c) {
        struct modal_router *router = c->spec.router;
        int r;

        list_remove(&c->link);
        if (router && !modal_router_is_ready(router)) {
                wait_for_access(c, false);
                return;
        }
        c->began_us = clock_now();
        c->whole = false;
        buf_clear(&c->reply);
        if (router)
                c->generation = router->generation;
        r = send_request(c);
        if (r < 0)
                fail_locally(c, r);
}

int modal_call_start(struct modal *m, const struct modal_call_spec *spec, void *owner, struct modal_call **out) {
        struct modal_call *c = calloc(1, sizeof(*c));
        int r = 0;

        if (!c)
                return -ENOMEM;
        if (!spec->router) /* only the control plane is told of it */
                r = uuid_make(c->key);
        if (r < 0) {
                free(c);
                return r;
        }
        c->modal = m;
        c->spec = *spec;
        c->owner = owner;
        c->reply = (struct buf)BUF_INIT(spec->message_max);
        c->retry = (struct retry){
                .first_us = spec->router ? ROUTER_DELAY_MIN_US : CALL_DELAY_MIN_US,
                .most_us = spec->router ? ROUTER_DELAY_MAX_US : CALL_DELAY_MAX_US,
                .tries = spec->tries,
                .patience_us = spec->patience_us,
        };
        c->started_us = clock_now();
        retry_reset(&c->retry, c->started_us);
        list_init(&c->link);
        uv_timer_init(m->client.loop, &c->timer);
        uv_unref((uv_handle_t *)&c->timer);
        c->timer.data = c;
        /* The first try goes out with the next turn of the loop's timers: no event from inside here, whatever fails. */
        if (spec->router && !modal_router_is_ready(spec->router)) {
                uv_timer_start(&c->timer, on_timer, 0, 0);
        } else {
                c->began_us = clock_now();
                if (spec->router)
                        c->generation = spec->router->generation;
                r = send_request(c);
                if (r < 0) {
                        release(c, GRPC_INTERNAL);
                        return r;
                }
        }
        *out = c;
        return 0;
}

long modal_call_connection(const struct modal_call *c) {
        return c->grpc ? grpc_connection(c->grpc) : -1;
}

void modal_call_cancel(struct modal_call *c) {
        release(c, GRPC_CANCELLED);
        buf_deinit(&c->reply);
}
