/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "pool/net/retry.h"
#include "pool/util/clock.h"

static const struct grpc_status unavailable = { .code = GRPC_UNAVAILABLE, .retry_after_us = -1 };

static struct retry for_a_minute(void) {
        struct retry r = { .first_us = 10, .most_us = 80, .retry_for_us = 60 * USEC_PER_SEC };

        retry_reset(&r, 0);
        return r;
}

static void deadline(void) {
        struct retry r = for_a_minute();

        CHECK(retry_next(&r, &unavailable, 1 * USEC_PER_SEC) >= 0);
        CHECK(retry_next(&r, &unavailable, 59 * USEC_PER_SEC) >= 0);
        CHECK_INT(retry_next(&r, &unavailable, 60 * USEC_PER_SEC), -1);
        retry_reset(&r, 60 * USEC_PER_SEC);
        CHECK(retry_next(&r, &unavailable, 61 * USEC_PER_SEC) >= 0);
}

/* The daemon was stopped for an hour: its connections broke long ago, and there is nothing wrong with the server. */
static void found_late(void) {
        struct retry r = for_a_minute();

        CHECK(retry_next(&r, &unavailable, 3600 * USEC_PER_SEC) >= 0);
        CHECK_INT(retry_next(&r, &unavailable, 3600 * USEC_PER_SEC), -1);
}

static void tries(void) {
        struct retry r = for_a_minute();

        r.tries = 2;
        CHECK(retry_next(&r, &unavailable, 0) >= 0);
        CHECK(retry_next(&r, &unavailable, 0) >= 0);
        CHECK_INT(retry_next(&r, &unavailable, 0), -1);
}

/* What the server says counts as no try, but takes of the time. */
static void told_when(void) {
        struct grpc_status later = { .code = GRPC_RESOURCE_EXHAUSTED, .retry_after_us = 20 * USEC_PER_SEC };
        struct retry r = for_a_minute();

        r.tries = 1;
        CHECK_INT(retry_next(&r, &later, 0), 20 * USEC_PER_SEC);
        CHECK_INT(retry_next(&r, &later, 20 * USEC_PER_SEC), 20 * USEC_PER_SEC);
        CHECK_INT(retry_next(&r, &later, 41 * USEC_PER_SEC), -1);
}

/* No descriptor on this machine: that is waited for, however long, and leaves the server all its time. */
static void starved(void) {
        struct grpc_status none = { .code = GRPC_UNAVAILABLE, .cause = HTTP_STARVED, .retry_after_us = -1 };
        struct retry r = for_a_minute();

        r.tries = 1;
        for (int i = 0; i < 1000; i++)
                CHECK_INT(retry_next(&r, &none, i * USEC_PER_SEC), 80);
        CHECK(retry_next(&r, &unavailable, 1000 * USEC_PER_SEC) >= 0);
        CHECK_INT(retry_next(&r, &unavailable, 1000 * USEC_PER_SEC), -1);
}

int main(void) {
        RUN(starved);
        RUN(deadline);
        RUN(found_late);
        RUN(tries);
        RUN(told_when);
        return check_done();
}
