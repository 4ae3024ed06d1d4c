/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/net/http-url.h"
#include "pool/net/http.h"
#include "tests/fuzz/fuzz.h"

/* An address keeps its meaning when a method is added, and goes in the clear to this machine only. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        char *url = malloc(len + 1), *method = malloc(len + sizeof("/a.B/C"));
        struct http_url of_method;
        struct result why;
        bool plain;

        if (!url || !method)
                abort();
        memcpy(url, data, len);
        url[len] = '\0';
        if (http_check_url(url, &plain, &why) == 0) {
                size_t root = strlen(url) - (url[strlen(url) - 1] == '/');

                sprintf(method, "%.*s/a.B/C", (int)root, url);
                if (http_url_read(method, &of_method) < 0 || of_method.plain != plain || of_method.address ||
                    (plain && !of_method.loopback))
                        __builtin_trap();
        }
        free(url);
        free(method);
        return 0;
}
