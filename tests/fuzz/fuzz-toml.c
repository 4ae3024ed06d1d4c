/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "pool/backend/modal/config/toml.h"
#include "pool/util/text.h"
#include "tests/fuzz/fuzz.h"

static int take(void *owner, const char *table, const char *key, enum toml_type type, const char *value) {
        if (!text_is_utf8(key, strlen(key)) || !text_is_utf8(value, strlen(value)))
                __builtin_trap();
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        struct result why = {};

        if (toml_read((const char *)data, len, take, NULL, &why) < 0 && !*why.text)
                __builtin_trap();
        return 0;
}
