/* SPDX-License-Identifier: MIT */

/* What the calls come to: by method and status. Nothing of it comes from a server. */

#include <string.h>

#include "pool/backend/modal/internal.h"
#include "pool/backend/modal/limits.h"

void modal_count(struct modal *m, const char *method, int code, unsigned retries, int64_t took_us) {
        struct modal_count *c = m->counts;

        if (code < GRPC_OK || code > GRPC_UNAUTHENTICATED)
                code = GRPC_UNKNOWN;
        while (c < m->counts + m->n_counts && (c->code != (enum grpc_code)code || strcmp(c->method, method)))
                c++;
        if (c == m->counts + CALL_COUNTS_MAX)
                return;
        if (c == m->counts + m->n_counts) {
                *c = (struct modal_count){ .method = method, .code = code };
                m->n_counts++;
        }
        c->n++;
        c->retries += retries;
        c->took_us += took_us;
}

void modal_each_call(const struct backend *b, void (*each)(void *data, const struct backend_calls *calls), void *data) {
        const struct modal *m = container_of(b, struct modal, backend);

        for (const struct modal_count *c = m->counts; c < m->counts + m->n_counts; c++)
                each(data, &(struct backend_calls){
                                   .method = c->method,
                                   .status = grpc_code_name(c->code),
                                   .n = c->n,
                                   .retries = c->retries,
                                   .took_us = c->took_us,
                           });
}
