/* SPDX-License-Identifier: MIT */
#include "pool/lease/shortage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

void lease_starve(struct lease *l, const struct job *j, int r) {
        struct leases *t = l->table;
        int64_t now = t->clock();
        char number[JOB_NAME_SIZE];

        result_set(&t->shortage, RESULT_BUSY, "the next job waits until this machine can start it: %s%s", strerror(-r),
                   r == -EMFILE ? "; ulimit -n or LimitNOFILE= of the daemon sets the limit" : "");
        if (now >= t->starved_warn_us) {
                log_warning("lease=%s environment=%s job=%s: %s", l->name, lease_environment(l),
                            job_name(j, number), t->shortage.text);
                t->starved_warn_us = clock_after(now, STARVED_WARN_EVERY_US);
        }
        list_remove(&l->starved);
        list_add_tail(&t->starved, &l->starved);
        if (t->starved_us <= now)
                t->starved_us = clock_after(now, STARVED_AGAIN_US);
}

void leases_try_starved(struct leases *t, void (*start)(struct lease *l)) {
        struct list again = LIST_INIT(again);
        struct lease *l;
        unsigned failed = 0;

        list_move_all(&again, &t->starved);
        while (failed < STARVED_TRIES && (l = list_first(&again, struct lease, starved))) {
                list_remove(&l->starved);
                start(l);
                failed += !list_empty(&l->starved);
        }
        list_move_all(&again, &t->starved); /* behind those that had no turn */
        list_move_all(&t->starved, &again);
}
