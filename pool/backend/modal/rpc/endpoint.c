/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/rpc/endpoint.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int modal_metadata_add(struct modal_metadata *m, const char *format, ...) {
        char *line;
        va_list ap;
        int n;

        if (m->n == MODAL_METADATA_MAX)
                return -E2BIG;
        va_start(ap, format);
        n = vasprintf(&line, format, ap);
        va_end(ap);
        if (n < 0)
                return -ENOMEM;
        m->lines[m->n++] = line;
        return 0;
}

void modal_metadata_deinit(struct modal_metadata *m) {
        for (size_t i = 0; i < m->n; i++) {
                char *line = (char *)m->lines[i];

                explicit_bzero(line, strlen(line));
                free(line);
        }
        *m = (struct modal_metadata){};
}

bool modal_metadata_is_value(const char *text) {
        while (*text > ' ' && *text < 0x7f)
                text++;
        return !*text;
}

void modal_endpoint_init(struct modal_endpoint *e, const struct modal_endpoint_ops *ops, struct modal_client *client) {
        *e = (struct modal_endpoint){ .ops = ops, .client = client };
        list_init(&e->waiting);
}
