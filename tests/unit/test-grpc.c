/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "pool/net/grpc.h"

/* In place of http.c: one request, whose events the test gives. */

static const struct http_events *events;
static void *request;

int http_start(struct http *h, const struct http_spec *spec, const struct http_events *e, void *owner,
               struct http_request **out) {
        events = e;
        request = owner;
        *out = NULL;
        return 0;
}

void http_cancel(struct http_request *q) {
        events = NULL;
}

long http_connection(const struct http_request *q) {
        return 0;
}

static struct grpc_call *call;
static unsigned n_messages, n_done, cancel_at;
static int code;

/* Each message is its own number. */
static int on_message(void *owner, const void *message, size_t len) {
        uint32_t number = n_messages++;

        CHECK(len == 0 || (len == sizeof(number) && !memcmp(message, &number, len)));
        if (n_messages == cancel_at)
                grpc_cancel(call);
        return 0;
}

static void on_done(void *owner, const struct grpc_status *status) {
        n_done++;
        code = status->code;
}

static void start(void) {
        static const struct grpc_events grpc_events = { .message = on_message, .done = on_done };
        static const char *const nothing[] = { NULL };

        n_messages = n_done = cancel_at = 0;
        CHECK_INT(grpc_start(NULL,
                             &(struct grpc_spec){
                                     .url = "https://api.modal.com",
                                     .method = "/a.B/C",
                                     .metadata = nothing,
                                     .message_max = 100,
                             },
                             &grpc_events, NULL, &call),
                  0);
        events->header(request, "HTTP/2 200", 10);
        events->header(request, "content-type: application/grpc", 30);
}

/* A body of numbered messages, or of empty ones. */
static size_t make_body(unsigned char *body, uint32_t n, bool empty) {
        unsigned char *p = body;

        for (uint32_t i = 0; i < n; i++) {
                grpc_frame_head(p, empty ? 0 : sizeof(i));
                memcpy(p + 5, &i, sizeof(i));
                p += empty ? 5 : 5 + sizeof(i);
        }
        return p - body;
}

/* Turn after turn, each takes no more than its messages, and what it leaves comes again: in order, each once. */
static void a_turn_takes_so_many(void) {
        enum { N = 20 * GRPC_TURN_MESSAGES + 7 };
        static unsigned char body[9 * N + 4];

        for (int empty = 0; empty < 2; empty++) {
                size_t len = make_body(body, N, empty), at = 0;
                unsigned turns = 0;

                start();
                while (at < len) {
                        unsigned before = n_messages;
                        ssize_t taken = events->data(request, body + at, len - at);

                        CHECK(taken > 0 && n_messages - before <= GRPC_TURN_MESSAGES);
                        at += taken;
                        turns++;
                }
                CHECK_INT(n_messages, N);
                CHECK_INT(turns, 21);
                CHECK_INT(n_done, 0);
                events->header(request, "grpc-status: 0", 14);
                events->done(request, &(struct http_outcome){});
                CHECK_INT(n_done, 1);
                CHECK_INT(code, GRPC_OK);
        }
}

static void a_message_in_pieces(void) {
        unsigned char body[200];
        size_t len = make_body(body, 20, false);

        start();
        for (size_t i = 0; i < len; i++)
                CHECK_INT(events->data(request, body + i, 1), 1);
        CHECK_INT(n_messages, 20);
        grpc_cancel(call);
}

static void cancelled_inside(void) {
        unsigned char body[200];
        size_t len = make_body(body, 20, false);

        start();
        cancel_at = 3;
        CHECK_INT(events->data(request, body, len), -ECANCELED);
        CHECK_INT(n_messages, 3);
        CHECK(!events);
        CHECK_INT(n_done, 0);
}

/* The body of an answer that is no gRPC is passed over. */
static void a_page(void) {
        start();
        events->header(request, "HTTP/2 502", 10);
        events->header(request, "content-type: text/html", 23);
        CHECK_INT(events->data(request, "<html>", 6), 6);
        events->done(request, &(struct http_outcome){});
        CHECK_INT(n_messages, 0);
        CHECK_INT(code, GRPC_UNAVAILABLE);
}

int main(void) {
        RUN(a_turn_takes_so_many);
        RUN(a_message_in_pieces);
        RUN(cancelled_inside);
        RUN(a_page);
        return check_done();
}
