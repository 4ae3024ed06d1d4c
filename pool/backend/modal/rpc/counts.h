/* SPDX-License-Identifier: MIT */
#pragma once

/* Counts of the calls that have ended, by method and status. Embedded in the client; nothing of it comes from a server. */

#include <stddef.h>
#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/backend/modal/limits.h"
#include "pool/net/grpc-wire.h"

struct modal_count {
        const char *method;
        enum grpc_code code;
        uint64_t n, retries;
        int64_t took_us;
};

struct modal_counts {
        struct modal_count counts[CALL_COUNTS_MAX];
        size_t n;
};

/* A call has ended, by itself or by us. @method: a literal. */
void modal_counts_add(struct modal_counts *counts, const char *method, int code, unsigned retries, int64_t took_us);

void modal_counts_each(const struct modal_counts *counts, void (*each)(void *data, const struct backend_calls *calls),
                       void *data);
