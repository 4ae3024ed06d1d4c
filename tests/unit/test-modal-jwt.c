/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "pool/backend/modal/rpc/jwt.h"
#include "pool/util/clock.h"
#include "tests/unit/check.h"

static int64_t expiry(const char *token) {
        return jwt_expiry(token, strlen(token));
}

static void with_expiry(void) {
        /* {"sub":"ta-1","exp":1700000000} and {"exp":1700000000.5} */
        CHECK_INT(expiry("e30.eyJzdWIiOiJ0YS0xIiwiZXhwIjoxNzAwMDAwMDAwfQ.sig"), 1700000000 * USEC_PER_SEC);
        CHECK_INT(expiry("e30.eyJleHAiOjE3MDAwMDAwMDAuNX0.sig"), 1700000000 * USEC_PER_SEC + 500000);
}

/* {"exp":1700000000,"jti":340282366920938463463374607431768211455} */
static void beside_a_large_number(void) {
        CHECK_INT(expiry("e30.eyJleHAiOjE3MDAwMDAwMDAsImp0aSI6MzQwMjgyMzY2OTIwOTM4NDYzNDYzMzc0NjA3NDMxNzY4MjExNDU1fQ.sig"),
                  1700000000 * USEC_PER_SEC);
}

static void without(void) {
        CHECK_INT(expiry("e30.e30.sig"), 0);
        CHECK_INT(expiry("e30.eyJleHAiOiJ4In0.sig"), 0); /* {"exp":"x"} */
}

static void none(void) {
        static const char *const tokens[] = { "", ".", "..", "a.b", "e30.W10.sig", "e30.e30", "e30.*.sig",
                                              "e30.eyJleHAiOi01fQ.sig" /* {"exp":-5} */ };

        for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
                CHECK_INT(expiry(tokens[i]), -EINVAL);
}

int main(void) {
        RUN(with_expiry);
        RUN(beside_a_large_number);
        RUN(without);
        RUN(none);
        return check_done();
}
