/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <netinet/in.h>
#include <uv.h>

#include "check.h"
#include "pool/net/http.h"
#include "pool/util/buf.h"

enum {
        FRAME = 16384,
        DATA = 0,
        HEADERS = 1,
        SETTINGS = 4,
        END_STREAM = 1,
        END_HEADERS = 4,
        ACK = 1,
        PREFACE = 24,
};

/*
 * A server that answers the one request of a connection with a body as fast as it is read. As in gRPC, trailers are its
 * end: curl 7.88 may wait for ever behind a last DATA frame that is as long as its buffer.
 */

static uv_loop_t loop;
static uv_tcp_t server;
static size_t body_len; /* of each answer */

struct peer {
        uv_tcp_t tcp;
        uv_write_t write;
        struct buf in, out;
        bool answered;
};

static unsigned char byte_at(size_t i) {
        return i * 7 + i / 256 * 13 + i / 65536;
}

static void add_frame(struct buf *b, int type, int flags, int stream, const void *payload, size_t len) {
        unsigned char head[9] = { len >> 16, len >> 8, len, type, flags, 0, 0, 0, stream };

        CHECK_INT(buf_append(b, head, sizeof(head)), 0);
        CHECK_INT(buf_append(b, payload, len), 0);
}

static bool has_request(const struct buf *in) {
        const unsigned char *p = (const unsigned char *)in->data;

        for (size_t at = PREFACE; at + 9 <= in->len; at += 9 + (p[at] << 16 | p[at + 1] << 8 | p[at + 2]))
                if (p[at + 3] == HEADERS)
                        return true;
        return false;
}

static void on_peer_closed(uv_handle_t *h) {
        struct peer *peer = h->data;

        buf_deinit(&peer->in);
        buf_deinit(&peer->out);
        free(peer);
}

static void on_written(uv_write_t *w, int status) {
}

static void answer(struct peer *peer) {
        unsigned char piece[FRAME];
        uv_buf_t all;

        add_frame(&peer->out, SETTINGS, 0, 0, NULL, 0);
        add_frame(&peer->out, SETTINGS, ACK, 0, NULL, 0);
        add_frame(&peer->out, HEADERS, END_HEADERS, 1, "\x88", 1); /* :status 200 */
        for (size_t at = 0; at < body_len; at += FRAME) {
                size_t n = body_len - at < FRAME ? body_len - at : FRAME;

                for (size_t i = 0; i < n; i++)
                        piece[i] = byte_at(at + i);
                add_frame(&peer->out, DATA, 0, 1, piece, n);
        }
        add_frame(&peer->out, HEADERS, END_HEADERS | END_STREAM, 1, "\0\1x\1y", 5); /* x: y */
        all = uv_buf_init(peer->out.data, peer->out.len);
        CHECK_INT(uv_write(&peer->write, (uv_stream_t *)&peer->tcp, &all, 1, on_written), 0);
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *out) {
        static char space[65536];

        *out = uv_buf_init(space, sizeof(space));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
        struct peer *peer = s->data;

        if (n < 0) {
                uv_close((uv_handle_t *)s, on_peer_closed);
                return;
        }
        CHECK_INT(buf_append(&peer->in, b->base, n), 0);
        if (!peer->answered && has_request(&peer->in)) {
                peer->answered = true;
                answer(peer);
        }
}

static void on_connection(uv_stream_t *s, int status) {
        struct peer *peer = calloc(1, sizeof(*peer));

        peer->in = peer->out = (struct buf)BUF_INIT(64 << 20);
        uv_tcp_init(&loop, &peer->tcp);
        uv_unref((uv_handle_t *)&peer->tcp);
        peer->tcp.data = peer;
        CHECK_INT(uv_accept(s, (uv_stream_t *)&peer->tcp), 0);
        uv_read_start((uv_stream_t *)&peer->tcp, on_alloc, on_read);
}

/* A client, and who asks it */

static struct http *http;
static char url[64];
static uv_prepare_t turn;
static size_t given_in_turn, most_in_turn;

struct user {
        struct http_request *request;
        size_t at, share; /* bytes that came; that it takes at one time, 0: all */
        size_t cancel_at, refuse_at;
        unsigned n_done;
        enum http_error error;
        enum http_group group;
};

static void on_turn(uv_prepare_t *t) {
        if (given_in_turn > most_in_turn)
                most_in_turn = given_in_turn;
        given_in_turn = 0;
}

static void on_header(void *owner, const char *line, size_t len) {
}

static ssize_t on_data(void *owner, const void *data, size_t len) {
        struct user *u = owner;
        const unsigned char *bytes = data;
        size_t n = u->share && u->share < len ? u->share : len, wrong = 0;

        CHECK(len > 0 && u->n_done == 0);
        for (size_t i = 0; i < n; i++)
                wrong += bytes[i] != byte_at(u->at + i);
        CHECK_INT(wrong, 0);
        u->at += n;
        given_in_turn += n;
        if (u->refuse_at && u->at >= u->refuse_at)
                return -EIO;
        if (u->cancel_at && u->at >= u->cancel_at)
                http_cancel(u->request);
        return n;
}

static void on_done(void *owner, const struct http_outcome *outcome) {
        struct user *u = owner;

        u->n_done++;
        u->error = outcome->error;
        uv_stop(&loop);
}

static void on_alive(uv_timer_t *t) {
}

static void ask(struct user *u) {
        static const struct http_events events = { .header = on_header, .data = on_data, .done = on_done };
        static const char *const nothing[] = { NULL };

        CHECK_INT(http_start(http, &(struct http_spec){ .url = url, .headers = nothing, .group = u->group }, &events, u,
                             &u->request),
                  0);
}

static uv_timer_t alive; /* nothing of the client keeps the loop alive */

static void begin(size_t len) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int size = sizeof(address);
        struct result why;

        body_len = len;
        most_in_turn = given_in_turn = 0;
        CHECK_INT(uv_loop_init(&loop), 0);
        uv_timer_init(&loop, &alive);
        uv_timer_start(&alive, on_alive, 1000000, 0);
        uv_prepare_init(&loop, &turn);
        uv_prepare_start(&turn, on_turn);
        uv_tcp_init(&loop, &server);
        CHECK_INT(uv_tcp_bind(&server, (struct sockaddr *)&address, 0), 0);
        CHECK_INT(uv_listen((uv_stream_t *)&server, 16, on_connection), 0);
        uv_tcp_getsockname(&server, (struct sockaddr *)&address, &size);
        snprintf(url, sizeof(url), "http://127.0.0.1:%d/", ntohs(address.sin_port));
        CHECK_INT(http_new(&http, &loop, NULL, &why), 0);
}

static void close_peers(uv_handle_t *h, void *data) {
        if (!uv_is_closing(h) && h->type == UV_TCP)
                uv_close(h, h == (uv_handle_t *)&server ? NULL : on_peer_closed);
}

static void end(void) {
        http_free(http);
        uv_walk(&loop, close_peers, NULL);
        uv_close((uv_handle_t *)&alive, NULL);
        uv_close((uv_handle_t *)&turn, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(uv_loop_close(&loop), 0);
}

/* However fast it comes, a turn of the loop gives a part: all bytes, each once and in order, and then the end. */
static void a_turn_gives_so_much(void) {
        struct user u = { .group = HTTP_STREAMS };

        begin(9 << 20);
        ask(&u);
        while (!u.n_done)
                uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(u.error, HTTP_OK);
        CHECK_INT(u.at, body_len);
        CHECK(most_in_turn > 0 && most_in_turn <= 2 * HTTP_TURN_BYTES);
        end();
}

/* One that takes a little at a time holds up its group for a while, and never the other one. */
static void short_calls_go_on(void) {
        struct user slow = { .group = HTTP_STREAMS, .share = 50 };
        struct user fast[3] = { { .group = HTTP_CALLS }, { .group = HTTP_CALLS }, { .group = HTTP_CALLS } };
        unsigned n = 0;

        begin(1 << 20);
        ask(&slow);
        while (slow.at == 0)
                uv_run(&loop, UV_RUN_ONCE);
        for (int i = 0; i < 3; i++)
                ask(&fast[i]);
        while (n < 3) {
                uv_run(&loop, UV_RUN_DEFAULT);
                n = fast[0].n_done + fast[1].n_done + fast[2].n_done;
        }
        CHECK_INT(slow.n_done, 0);
        CHECK(slow.at < body_len);
        slow.share = 0;
        while (!slow.n_done)
                uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(slow.at, body_len);
        CHECK_INT(slow.error, HTTP_OK);
        end();
}

static void cancelled_while_it_is_given(void) {
        struct user u = { .group = HTTP_STREAMS, .share = 1000, .cancel_at = 500000 }, other = { .group = HTTP_STREAMS };

        begin(1 << 20);
        ask(&u);
        while (u.at < u.cancel_at)
                uv_run(&loop, UV_RUN_ONCE);
        ask(&other); /* the group goes on */
        while (!other.n_done)
                uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(other.at, body_len);
        CHECK_INT(u.at, u.cancel_at);
        CHECK_INT(u.n_done, 0);
        end();
}

static void cancelled_in_between(void) {
        struct user u = { .group = HTTP_STREAMS, .share = 1000 }, other = { .group = HTTP_STREAMS };

        begin(1 << 20);
        ask(&u);
        while (u.at < 500000)
                uv_run(&loop, UV_RUN_ONCE);
        http_cancel(u.request);
        ask(&other);
        while (!other.n_done)
                uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(other.at, body_len);
        CHECK_INT(u.n_done, 0);
        end();
}

static void refused_while_it_is_given(void) {
        struct user u = { .group = HTTP_STREAMS, .share = 1000, .refuse_at = 500000 };

        begin(1 << 20);
        ask(&u);
        while (!u.n_done)
                uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(u.at, u.refuse_at);
        CHECK_INT(u.error, HTTP_REFUSED);
        end();
}

static void freed_while_it_is_given(void) {
        struct user u = { .group = HTTP_STREAMS, .share = 1000 };

        begin(1 << 20);
        ask(&u);
        while (u.at < 500000)
                uv_run(&loop, UV_RUN_ONCE);
        end();
        CHECK_INT(u.n_done, 0);
}

int main(void) {
        RUN(a_turn_gives_so_much);
        RUN(short_calls_go_on);
        RUN(cancelled_while_it_is_given);
        RUN(cancelled_in_between);
        RUN(refused_while_it_is_given);
        RUN(freed_while_it_is_given);
        return check_done();
}
