/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/rpc/jwt.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "pool/net/grpc-wire.h"
#include "pool/util/clock.h"

#define PAYLOAD_MAX 8192 /* characters */

int64_t jwt_expiry(const char *token, size_t len) {
        unsigned char payload[PAYLOAD_MAX];
        const char *begin, *end;
        json_t *root, *exp;
        double seconds;
        int64_t us = 0;
        int n;

        begin = memchr(token, '.', len);
        if (!begin)
                return -EINVAL;
        begin++;
        end = memchr(begin, '.', token + len - begin);
        if (!end || end - begin > PAYLOAD_MAX)
                return -EINVAL;
        n = grpc_base64_decode(begin, end - begin, payload);
        if (n < 0)
                return -EINVAL;
        /* Other claims may have numbers of any size, which fit a real. */
        root = json_loadb((const char *)payload, n, JSON_DECODE_INT_AS_REAL, NULL);
        if (!json_is_object(root)) {
                json_decref(root);
                return -EINVAL;
        }
        exp = json_object_get(root, "exp");
        if (json_is_number(exp)) {
                seconds = json_number_value(exp);
                us = seconds > 0 && seconds < 1e11 ? (int64_t)(seconds * USEC_PER_SEC) : -EINVAL;
        }
        json_decref(root);
        return us;
}
