/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/rpc/counts.h"

#include <string.h>

void modal_counts_add(struct modal_counts *counts, const char *method, int code, unsigned retries, int64_t took_us) {
        struct modal_count *c = counts->counts;

        if (code < GRPC_OK || code > GRPC_UNAUTHENTICATED)
                code = GRPC_UNKNOWN;
        while (c < counts->counts + counts->n && (c->code != (enum grpc_code)code || strcmp(c->method, method)))
                c++;
        if (c == counts->counts + CALL_COUNTS_MAX)
                return;
        if (c == counts->counts + counts->n) {
                *c = (struct modal_count){ .method = method, .code = code };
                counts->n++;
        }
        c->n++;
        c->retries += retries;
        c->took_us += took_us;
}

void modal_counts_each(const struct modal_counts *counts, void (*each)(void *data, const struct backend_calls *calls),
                       void *data) {
        for (const struct modal_count *c = counts->counts; c < counts->counts + counts->n; c++)
                each(data, &(struct backend_calls){
                                   .method = c->method,
                                   .status = grpc_code_name(c->code),
                                   .n = c->n,
                                   .retries = c->retries,
                                   .took_us = c->took_us,
                           });
}
