/* SPDX-License-Identifier: MIT */
#include "pool/environment/restore.h"

#include <errno.h>
#include <string.h>

#include "pool/util/log.h"

struct rows {
        struct environments *(*find)(void *data, uint64_t pool);
        void *data;
        struct list environments;
};

static int read_row(void *data, const struct journal_environment *row) {
        struct rows *rows = data;
        struct environments *set = rows->find(rows->data, row->pool);
        struct environment *e;
        int r = environment_from_row(&e, set ?: rows->find(rows->data, 0), row);

        if (r < 0)
                return r;
        e->ending = e->ending || !set;
        list_add_tail(&rows->environments, &e->link);
        return 0;
}

/* In two steps, because taking one back writes to the journal, which is not allowed while it is read. */
int environments_restore(struct journal *j, struct environments *(*find)(void *data, uint64_t pool), void *data) {
        struct rows rows = { .find = find, .data = data };
        struct environment *e, *tmp;
        int r;

        list_init(&rows.environments);
        r = journal_each_environment(j, read_row, &rows);
        list_for_each_safe (e, tmp, &rows.environments, link) {
                int n;

                list_remove(&e->link);
                n = r ?: environment_adopt(e);
                if (n == 0)
                        continue;
                if (n == -ENOTSUP) /* it ended with the run that made it */
                        (void)journal_drop_environment(j, e->nonce);
                else
                        log_error("environment %s of an earlier run is not taken back: %s", e->nonce, strerror(-n));
                environment_free(e);
        }
        return r;
}
