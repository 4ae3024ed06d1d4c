/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "pool/net/grpc-wire.h"
#include "pool/util/text.h"
#include "tests/fuzz/fuzz.h"

/* Lines of a response's head and trailers. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        const char *p = (const char *)data, *end = p + len;
        struct grpc_headers h;

        grpc_headers_init(&h);
        while (p < end) {
                const char *newline = memchr(p, '\n', end - p);
                size_t n = (newline ? newline : end) - p;

                grpc_headers_line(&h, p, n);
                p += n + 1;
        }
        if (!text_is_plain(h.message, strlen(h.message)) || strlen(h.message) >= sizeof(h.message) || h.retry_after_us < -1 || h.code < 0 || h.code > 16)
                __builtin_trap();
        return 0;
}
