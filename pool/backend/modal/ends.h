/* SPDX-License-Identifier: MIT */
#pragma once

/* Counts of the sandboxes that ended by themselves, by the cause and the exit code that Modal gave. Embedded in the client. */

#include <stddef.h>
#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/backend/modal/limits.h"

struct modal_ends {
        struct backend_ends ends[END_COUNTS_MAX];
        size_t n;
};

/* @cause: a literal. Exit codes may be many: the last place is for all that find none, "other". */
void modal_ends_add(struct modal_ends *ends, const char *cause, int exit_code);

void modal_ends_each(const struct modal_ends *ends, void (*each)(void *data, const struct backend_ends *ends), void *data);
