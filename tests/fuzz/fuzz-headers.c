/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "pool/net/grpc-wire.h"
#include "pool/util/text.h"
#include "tests/fuzz/fuzz.h"

/* Whatever a line has, its value as text is plain. */
static void decode(const char *line, size_t len) {
        struct grpc_header h;
        char text[64];

        if (!grpc_header_split(&h, line, len))
                return;
        if (h.name != line || h.name_len >= len || h.value <= line || h.value + h.value_len > line + len)
                __builtin_trap();
        grpc_percent_decode(h.value, h.value_len, text, sizeof(text));
        if (!text_is_plain(text, strlen(text)))
                __builtin_trap();
}

/* Lines of a response's head and trailers. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        const char *p = (const char *)data, *end = p + len;
        struct grpc_headers h;

        grpc_headers_init(&h);
        while (p < end) {
                const char *newline = memchr(p, '\n', end - p);
                size_t n = (newline ? newline : end) - p;

                grpc_headers_line(&h, p, n);
                decode(p, n);
                p += n + 1;
        }
        if (!text_is_plain(h.message, strlen(h.message)) || strlen(h.message) >= sizeof(h.message) || h.retry_after_us < -1 || h.code < 0 || h.code > 16)
                __builtin_trap();
        return 0;
}
