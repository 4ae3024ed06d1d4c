/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/warnings.h"

#include <stdio.h>
#include <string.h>

#include "pool/util/clock.h"

/* Whether one more new one is taken in this hour. */
static bool has_room(struct modal_warnings *w, int64_t now_us) {
        if (w->n_new == 0 || now_us - w->since_us >= 3600 * USEC_PER_SEC) {
                w->since_us = now_us;
                w->n_new = 0;
        }
        if (w->n_new == WARNINGS_NEW_MAX)
                return false;
        w->n_new++;
        return true;
}

bool modal_warnings_add(struct modal_warnings *w, const char *text, int64_t now_us) {
        struct modal_warning one = {};
        size_t at = 0;

        snprintf(one.text, sizeof(one.text), "%s", text);
        while (at < w->n && strcmp(w->kept[at].text, one.text) != 0)
                at++;
        if (at == w->n) {
                if (!has_room(w, now_us))
                        return false;
                if (w->n < WARNINGS_MAX)
                        w->n++;
                else
                        at--;
        } else {
                one.n = w->kept[at].n;
        }
        memmove(w->kept + 1, w->kept, at * sizeof(w->kept[0]));
        one.n++;
        one.last_us = now_us;
        w->kept[0] = one;
        return one.n == 1;
}

void modal_warnings_each(const struct modal_warnings *w, void (*each)(void *data, const struct backend_warning *warning),
                         void *data) {
        for (size_t i = 0; i < w->n; i++)
                each(data, &(struct backend_warning){ w->kept[i].text, w->kept[i].n, w->kept[i].last_us });
}
