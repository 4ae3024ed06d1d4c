/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "pool/net/grpc-wire.h"
#include "pool/net/retry.h"
#include "pool/util/buf.h"
#include "pool/util/clock.h"
#include "tests/unit/check.h"

static int collect(void *owner, const void *message, size_t len) {
        struct buf *b = owner;

        return buf_printf(b, "[%.*s]", (int)len, (const char *)message);
}

static int refuse(void *owner, const void *message, size_t len) {
        return -EIO;
}

static const char two[] = "\0\0\0\0\3abc\0\0\0\0\0\0\0\0\0\2de";

/* Messages come out the same however the bytes are cut. */
static void frames_in_pieces(void) {
        for (size_t piece = 1; piece <= sizeof(two); piece++) {
                struct buf got = BUF_INIT(100);
                struct grpc_frames f;

                grpc_frames_init(&f, 3);
                for (size_t at = 0; at < sizeof(two) - 1; at += piece) {
                        size_t n = sizeof(two) - 1 - at < piece ? sizeof(two) - 1 - at : piece;

                        CHECK_INT(grpc_frames_push(&f, two + at, n, collect, &got), n);
                }
                CHECK_STR(buf_text(&got), "[abc][][de]");
                CHECK(grpc_frames_whole(&f));
                grpc_frames_deinit(&f);
                buf_deinit(&got);
        }
}

static void frames_cut_off(void) {
        struct buf got = BUF_INIT(100);
        struct grpc_frames f;

        for (size_t n = 1; n < 8; n++) {
                grpc_frames_init(&f, 3);
                CHECK_INT(grpc_frames_push(&f, two, n, collect, &got), n);
                CHECK(!grpc_frames_whole(&f));
                grpc_frames_deinit(&f);
        }
        CHECK_STR(buf_text(&got), "");
        buf_deinit(&got);
}

static void frames_refused(void) {
        struct buf got = BUF_INIT(100);
        struct grpc_frames f;

        grpc_frames_init(&f, 2);
        CHECK_INT(grpc_frames_push(&f, two, 5, collect, &got), -EFBIG);
        grpc_frames_deinit(&f);
        grpc_frames_init(&f, 2);
        CHECK_INT(grpc_frames_push(&f, "\1\0\0\0\1x", 6, collect, &got), -EPROTO);
        grpc_frames_deinit(&f);
        grpc_frames_init(&f, 3);
        CHECK_INT(grpc_frames_push(&f, two, sizeof(two) - 1, refuse, NULL), -EIO);
        grpc_frames_deinit(&f);
        buf_deinit(&got);
}

static void line(struct grpc_headers *h, const char *text) {
        grpc_headers_line(h, text, strlen(text));
}

static void headers(void) {
        struct grpc_headers h;

        grpc_headers_init(&h);
        line(&h, "HTTP/2 200 ");
        line(&h, "Content-Type: application/grpc+proto");
        CHECK_INT(h.http_status, 200);
        CHECK(h.is_grpc && !h.has_status);
        line(&h, "grpc-status: 5");
        line(&h, "Grpc-Message:  there is no 100%25 %E2%82%AC %zz %4 ");
        CHECK(h.has_status);
        CHECK_INT(h.code, GRPC_NOT_FOUND);
        CHECK_STR(h.message, "there is no 100% \xe2\x82\xac %zz %4");
        CHECK_INT(h.retry_after_us, -1);

        line(&h, "HTTP/1.1 503 Service Unavailable");
        CHECK_INT(h.http_status, 503);
        CHECK(!h.has_status && !h.is_grpc);
}

static const char *value_of(const char *text, const char *name) {
        static char value[100];
        struct grpc_header h;

        if (!grpc_header_split(&h, text, strlen(text)) || !grpc_header_is(&h, name))
                return NULL;
        snprintf(value, sizeof(value), "%.*s", (int)h.value_len, h.value);
        return value;
}

static void parts_of_a_line(void) {
        CHECK_STR(value_of("X-Some:  a: b \t", "x-some"), "a: b");
        CHECK_STR(value_of("x-some:", "x-some"), "");
        CHECK_STR(value_of("x-some: \t", "x-some"), "");
        CHECK(!value_of("x-some: a", "x-som") && !value_of("x-some: a", "x-some-more"));
        CHECK(!value_of("x-some", "x-some") && !value_of("", "") && !value_of("HTTP/2 200 a: b", "HTTP/2 200 a"));
}

static void odd_statuses(void) {
        static const char *const lines[] = { "grpc-status:", "grpc-status: -1", "grpc-status: 99", "grpc-status: 1x",
                                             "grpc-status: 99999999999999999999" };
        struct grpc_headers h;

        for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
                grpc_headers_init(&h);
                line(&h, lines[i]);
                CHECK(h.has_status);
                CHECK_INT(h.code, GRPC_UNKNOWN);
        }
        grpc_headers_init(&h);
        line(&h, "grpc-message: a%00b%0Ac%1b[2J%c2%9b%e2%80%aed%ff");
        CHECK_STR(h.message, "a b c [2J ?d?");
}

/* Made with Modal's own messages: RPCStatus(code=8, message="slow", details=[Any(RPCRetryPolicy(0.25))]). */
static const char details[] = "CAgSBHNsb3caOAovdHlwZS5nb29nbGVhcGlzLmNvbS9tb2RhbC5jbGllbnQuUlBDUmV0cnlQb2xpY3kSBQ0AAIA+";

static void retry_details(void) {
        struct grpc_headers h;
        char text[200];

        grpc_headers_init(&h);
        snprintf(text, sizeof(text), "grpc-status-details-bin: %s", details);
        line(&h, text);
        CHECK_INT(h.retry_after_us, 250000);
        /* Cut anywhere, it is none, and nothing breaks. */
        for (size_t n = strlen(text) - 1; n > strlen("grpc-status-details-bin: "); n--) {
                grpc_headers_init(&h);
                grpc_headers_line(&h, text, n);
                CHECK_INT(h.retry_after_us, -1);
        }
}

static void base64(void) {
        unsigned char out[16];

        CHECK_INT(grpc_base64_decode("YWJj", 4, out), 3);
        CHECK(!memcmp(out, "abc", 3));
        CHECK_INT(grpc_base64_decode("YQ==", 4, out), 1);
        CHECK_INT(grpc_base64_decode("YQ", 2, out), 1);
        CHECK_INT(grpc_base64_decode("-_-_", 4, out), 3);
        CHECK_INT(grpc_base64_decode("+/+/", 4, out + 3), 3);
        CHECK(!memcmp(out, out + 3, 3));
        CHECK_INT(grpc_base64_decode("", 0, out), 0);
        CHECK_INT(grpc_base64_decode("Y", 1, out), -EINVAL);
        CHECK_INT(grpc_base64_decode("Y*==", 4, out), -EINVAL);
        CHECK_INT(grpc_base64_decode("===", 3, out), -EINVAL);
}

static void timeouts(void) {
        char text[16];

        grpc_timeout_format(1, text);
        CHECK_STR(text, "1m");
        grpc_timeout_format(25 * USEC_PER_SEC, text);
        CHECK_STR(text, "25000m");
        grpc_timeout_format(200000 * USEC_PER_SEC, text);
        CHECK_STR(text, "200000S");
}

static void retries(void) {
        struct retry r = { .first_us = 100, .most_us = 300, .tries = 3 };
        struct grpc_status s = { .code = GRPC_UNAVAILABLE, .retry_after_us = -1 };
        int64_t delay;

        retry_reset(&r, 0);
        delay = retry_next(&r, &s, 0);
        CHECK(delay >= 50 && delay <= 100);
        delay = retry_next(&r, &s, 0);
        CHECK(delay >= 100 && delay <= 200);
        /* What the server asks for does not count. */
        s.retry_after_us = 7 * USEC_PER_SEC;
        CHECK_INT(retry_next(&r, &s, 0), 7 * USEC_PER_SEC);
        s.retry_after_us = -1;
        delay = retry_next(&r, &s, 0);
        CHECK(delay >= 150 && delay <= 300);
        CHECK_INT(retry_next(&r, &s, 0), -1);
        retry_reset(&r, 0);
        CHECK(retry_next(&r, &s, 0) > 0);
        s.code = GRPC_NOT_FOUND;
        CHECK_INT(retry_next(&r, &s, 0), -1);
        s = (struct grpc_status){ .code = GRPC_UNAVAILABLE, .cause = HTTP_UNTRUSTED, .retry_after_us = -1 };
        CHECK_INT(retry_next(&r, &s, 0), -1);
}

static void retries_for_a_time(void) {
        struct retry r = { .first_us = 100, .most_us = 300, .retry_for_us = 1000 };
        struct grpc_status s = { .code = GRPC_INTERNAL, .retry_after_us = -1 };

        retry_reset(&r, 5000);
        for (int i = 0; i < 50; i++)
                CHECK(retry_next(&r, &s, 5500) > 0);
        CHECK_INT(retry_next(&r, &s, 6000), -1);
}

int main(void) {
        RUN(frames_in_pieces);
        RUN(frames_cut_off);
        RUN(frames_refused);
        RUN(headers);
        RUN(parts_of_a_line);
        RUN(odd_statuses);
        RUN(retry_details);
        RUN(base64);
        RUN(timeouts);
        RUN(retries);
        RUN(retries_for_a_time);
        return check_done();
}
