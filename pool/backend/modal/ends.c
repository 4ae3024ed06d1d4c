/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/ends.h"

#include <string.h>

void modal_ends_add(struct modal_ends *ends, const char *cause, int exit_code) {
        struct backend_ends *e = ends->ends, *end = e + ends->n;

        while (e < end && (e->exit_code != exit_code || strcmp(e->cause, cause)))
                e++;
        if (e == end && ends->n == END_COUNTS_MAX) {
                e--;
        } else if (e == end) {
                *e = (struct backend_ends){ .cause = cause, .exit_code = exit_code };
                if (++ends->n == END_COUNTS_MAX)
                        *e = (struct backend_ends){ .cause = "other" };
        }
        e->n++;
}

void modal_ends_each(const struct modal_ends *ends, void (*each)(void *data, const struct backend_ends *ends), void *data) {
        for (const struct backend_ends *e = ends->ends; e < ends->ends + ends->n; e++)
                each(data, e);
}
