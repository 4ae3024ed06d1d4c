/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "pool/util/text.h"
#include "tests/fuzz/fuzz.h"

/* Whatever it was, it is plain afterwards and no longer, also in its own place; and what is plain stays as it is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        size_t size = len > 0 && data[0] % 2 ? len / 2 + 1 : len + 1;
        char *in = malloc(len + 1), *out = malloc(size);

        if (!in || !out)
                abort();
        memcpy(in, data, len);
        in[len] = '\0';
        text_show(out, size, in, len);
        if (strlen(out) >= size || !text_is_plain(out, strlen(out)) || !text_is_utf8(out, strlen(out)))
                __builtin_trap();
        if (text_is_plain(in, len) && size > len && (strlen(out) != len || memcmp(out, in, len)))
                __builtin_trap();
        text_show(in, size, in, len);
        if (strcmp(in, out))
                __builtin_trap();
        free(in);
        free(out);
        return 0;
}
