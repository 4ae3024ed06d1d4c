/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "pool/helper/agent/clean.h"
#include "tests/fuzz/fuzz.h"

/* None, or a path in its shortest form. */
static void check_path(const char *path) {
        size_t len = strlen(path);

        if (len == 0)
                return;
        if (path[0] != '/' || path[len - 1] == '/' || strstr(path, "//") || strstr(path, "/./") || strstr(path, "/../"))
                abort();
        if ((len >= 2 && !strcmp(path + len - 2, "/.")) || (len >= 3 && !strcmp(path + len - 3, "/..")))
                abort();
}

/* A kind, flags, and strings. Those that are accepted are in a form that stays. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        static char strings[HELPER_DATA_MAX], before[HELPER_DATA_MAX];
        struct clean_request q = { .strings = strings };

        if (len < 2 || len - 2 > sizeof(strings))
                return 0;
        q.kind = data[0] & 1 ? HELPER_CLEAN : HELPER_NOTE;
        q.flags = data[1];
        q.len = len - 2;
        memcpy(strings, data + 2, q.len);
        if (clean_check(&q))
                return 0;
        if (q.len == 0 || strings[q.len - 1])
                abort();
        for (const char *next = strings; next < strings + q.len; next += strlen(next) + 1)
                check_path(next);
        memcpy(before, strings, q.len);
        if (clean_check(&q) || memcmp(before, strings, q.len))
                abort();
        return 0;
}
