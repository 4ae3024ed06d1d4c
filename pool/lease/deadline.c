/* SPDX-License-Identifier: MIT */
#include "pool/lease/deadline.h"

#include "pool/util/clock.h"

void deadlines_init(struct deadlines *d) {
        list_init(&d->jobs);
        d->next_us = USEC_NEVER;
}

void deadline_set(struct deadlines *d, struct job *j, int64_t due_us) {
        j->due_us = due_us;
        d->next_us = clock_earlier(d->next_us, due_us);
}

void deadline_add(struct deadlines *d, struct job *j, int64_t due_us) {
        list_add_tail(&d->jobs, &j->deadline);
        deadline_set(d, j, due_us);
}

/* What is done about one job may end others: a lease that is lost ends all of its own. */
void deadlines_tick(struct deadlines *d, int64_t now, void (*due)(struct job *j)) {
        struct list rest = LIST_INIT(rest);
        struct job *j;

        if (d->next_us > now)
                return;
        d->next_us = USEC_NEVER;
        list_move_all(&rest, &d->jobs);
        while ((j = list_first(&rest, struct job, deadline))) {
                list_remove(&j->deadline);
                list_add_tail(&d->jobs, &j->deadline);
                if (j->due_us > now)
                        deadline_set(d, j, j->due_us);
                else
                        due(j);
        }
}
