/* SPDX-License-Identifier: MIT */

#include "pool/backend/modal/rpc/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/net/retry.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/crash.h"
#include "pool/util/log.h"
#include "pool/util/uuid.h"

#define POLL_LEAST_US (USEC_PER_SEC / 2) /* a "not yet" that comes sooner is a failure */
#define RENEWALS_MAX 4                   /* refused accesses in a row */

struct modal_call {
        struct modal_endpoint *endpoint;
        struct modal_call_spec spec;
        void *owner;
        struct list link;      /* in the endpoint's waiting */
        struct grpc_call *grpc;
        uv_timer_t timer;
        struct retry retry;
        int64_t started_us;
        unsigned again;        /* tries because one had failed */
        int64_t began_us;      /* this try */
        unsigned generation;   /* of the access that this try used */
        unsigned renewals;     /* in a row, for refused accesses */
        bool asked_again;      /* the other side knew nothing of us, and access was asked for again */
        bool whole;            /* exactly one message has come */
        struct buf reply;
        char key[UUID_SIZE];
};

static void attempt(struct modal_call *c);

static void on_closed(uv_handle_t *handle) {
        free(handle->data);
}

static void release(struct modal_call *c, int code) {
        modal_counts_add(&c->endpoint->client->counts, c->spec.method, code, c->again, clock_now() - c->started_us);
        list_remove(&c->link);
        if (c->grpc)
                grpc_cancel(TAKE_PTR(c->grpc));
        uv_close((uv_handle_t *)&c->timer, on_closed);
}

/* What the server said, fit for a log. */
static const char *said(const struct modal_call *c, const struct grpc_status *status, char text[GRPC_MESSAGE_TEXT_MAX]) {
        snprintf(text, GRPC_MESSAGE_TEXT_MAX, "%s", status->message);
        modal_client_scrub(c->endpoint->client, text);
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

/* Wait for access, which is asked for unless there is a newer one than our try had. */
static void wait_for_access(struct modal_call *c) {
        struct modal_endpoint *e = c->endpoint;
        int r = 0;

        list_add_tail(&e->waiting, &c->link);
        if (c->generation != e->generation && modal_endpoint_is_ready(e))
                uv_timer_start(&c->timer, on_timer, 0, 0);
        else
                r = e->ops->fetch(e);
        if (r < 0)
                fail_locally(c, r);
}

void modal_endpoint_answer(struct modal_endpoint *e, const struct grpc_status *status) {
        struct list calls = LIST_INIT(calls);
        struct modal_call *c;

        list_move_all(&calls, &e->waiting);
        while ((c = list_first(&calls, struct modal_call, link))) {
                list_remove(&c->link);
                if (status->code == GRPC_OK)
                        attempt(c);
                else
                        try_again(c, status);
        }
}

/* What to do about a failed try, as far as access is what it lacks. True: it is taken care of. */
static bool renew_access(struct modal_call *c, const struct grpc_status *status) {
        struct modal_endpoint *e = c->endpoint;

        if (!e->ops->fetch)
                return false;
        if (status->code == GRPC_UNAUTHENTICATED && c->renewals < RENEWALS_MAX) {
                c->renewals++;
                c->again++;
                wait_for_access(c);
                return true;
        }
        if (!e->ops->moves)
                return false;
        if (status->code == GRPC_NOT_FOUND && !c->asked_again) {
                c->asked_again = true;
                c->again++;
                wait_for_access(c);
                return true;
        }
        /* It may have moved: the next try, after its delay, goes where it then is. */
        if (status->cause == HTTP_UNREACHABLE && c->generation == e->generation)
                (void)e->ops->fetch(e);
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
        if (c->spec.once || !renew_access(c, status))
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

static void on_metadata(void *owner, const struct grpc_header *header) {
        const struct modal_call *c = owner;

        if (grpc_header_is(header, "x-modal-warning"))
                modal_client_take_warning(c->endpoint->client, header->value, header->value_len);
}

static const struct grpc_events grpc_events = {
        .metadata = on_metadata,
        .message = on_message,
        .done = on_status,
};

/* One try, with the access that there is. */
static int send_request(struct modal_call *c) {
        struct modal_endpoint *e = c->endpoint;
        const struct modal_try try = { c->key, c->retry.failures, c->retry.throttled };
        struct modal_metadata metadata = {};
        struct buf message = BUF_INIT(MODAL_REQUEST_MAX);
        char method[160];
        int r;

        c->began_us = clock_now();
        c->generation = e->generation;
        snprintf(method, sizeof(method), "%s%s", e->ops->service, c->spec.method);
        r = e->ops->metadata(e, &try, &metadata);
        if (r == 0 && c->spec.sandbox_token)
                r = modal_metadata_add(&metadata, "x-modal-sandbox-token: %s", c->spec.sandbox_token);
        crash_point(c->spec.method, "is sent");
        if (r == 0)
                r = c->spec.pack(c->owner, &message);
        if (r == 0)
                r = grpc_start(e->client->http,
                               &(struct grpc_spec){
                                       .url = e->url,
                                       .method = method,
                                       .metadata = metadata.lines,
                                       .message = buf_text(&message),
                                       .len = message.len,
                                       .timeout_us = c->spec.attempt_us,
                                       .patient = c->spec.poll && c->spec.message != NULL,
                                       .message_max = c->spec.message_max,
                                       .group = c->spec.group,
                               },
                               &grpc_events, c, &c->grpc);
        buf_deinit(&message);
        modal_metadata_deinit(&metadata);
        return r;
}

static void attempt(struct modal_call *c) {
        int r;

        list_remove(&c->link);
        uv_timer_stop(&c->timer);
        if (!modal_endpoint_is_ready(c->endpoint)) {
                wait_for_access(c);
                return;
        }
        c->whole = false;
        buf_clear(&c->reply);
        r = send_request(c);
        if (r < 0)
                fail_locally(c, r);
}

static struct modal_call *call_new(struct modal_endpoint *e, const struct modal_call_spec *spec, void *owner) {
        struct modal_call *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->endpoint = e;
        c->spec = *spec;
        c->owner = owner;
        c->reply = (struct buf)BUF_INIT(spec->message_max);
        c->retry = (struct retry){
                .first_us = e->ops->delay_us,
                .most_us = e->ops->delay_max_us,
                .tries = spec->tries,
                .retry_for_us = spec->retry_for_us,
        };
        c->started_us = clock_now();
        retry_reset(&c->retry, c->started_us);
        list_init(&c->link);
        uv_timer_init(e->client->loop, &c->timer);
        uv_unref((uv_handle_t *)&c->timer);
        c->timer.data = c;
        return c;
}

int modal_call_start(struct modal_endpoint *e, const struct modal_call_spec *spec, void *owner,
                     struct modal_call **out) {
        struct modal_call *c = call_new(e, spec, owner);
        int r = 0;

        if (!c)
                return -ENOMEM;
        if (e->ops->keyed)
                r = uuid_make(c->key);
        /* The first try goes out with the next turn of the loop's timers: no event from inside here, whatever fails. */
        if (r == 0 && !modal_endpoint_is_ready(e))
                uv_timer_start(&c->timer, on_timer, 0, 0);
        else if (r == 0)
                r = send_request(c);
        if (r < 0) {
                release(c, GRPC_INTERNAL);
                return r;
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
