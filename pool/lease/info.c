/* SPDX-License-Identifier: MIT */

/* Who holds what, for those who watch: figures, and a warning of leases that were forgotten. */

#include <stdio.h>

#include "pool/lease/internal.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

void lease_note_use(struct lease *l) {
        struct leases *t = l->table;
        int64_t period = t->config->held_warning_us;
        bool unused = l->state == LEASE_LEASED && !l->current && l->n_queued == 0;

        if (unused == !list_empty(&l->unused))
                return;
        list_remove(&l->unused);
        if (!unused)
                return;
        l->unused_since_us = t->clock();
        l->warn_us = period ? clock_after(l->unused_since_us, period) : USEC_NEVER;
        list_add_tail(&t->unused, &l->unused); /* the period is the same for all, so they stand in order */
}

static void warn(struct lease *l, int64_t now) {
        char held[TEXT_DURATION_SIZE], why[128];

        snprintf(why, sizeof(why), "has held environment %s for %s without a job; rmdir gives it back",
                 lease_environment(l), text_from_usec(now - l->unused_since_us, held));
        log_warning("lease=%s environment=%s owner=%u: %s", l->name, lease_environment(l), (unsigned)l->uid, why);
        event_emit(l->table->events, "lease", l->name, "unused", NULL, why);
}

void leases_warn(struct leases *t, int64_t now) {
        struct lease *l;

        while ((l = list_first(&t->unused, struct lease, unused)) && l->warn_us <= now) {
                warn(l, now);
                l->warn_us = clock_after(now, t->config->held_warning_us);
                list_remove(&l->unused);
                list_add_tail(&t->unused, &l->unused);
        }
}

int64_t leases_warn_due(const struct leases *t) {
        const struct lease *l = list_first(&t->unused, struct lease, unused);

        return l ? l->warn_us : USEC_NEVER;
}

void leases_each(const struct leases *t, int64_t now, void (*each)(void *data, const struct lease_info *info),
                 void *data) {
        const struct lease *l;

        list_for_each (l, &t->list, link)
                each(data, &(struct lease_info){
                                   .name = l->name,
                                   .state = l->state,
                                   .uid = l->uid,
                                   .environment = lease_environment(l),
                                   .created_us = l->created_us,
                                   .wait_us = l->state == LEASE_WAITING ? now - l->claim.since_us : l->claim.waited_us,
                                   .current = l->current,
                                   .queued = l->n_queued,
                                   .ended = l->last_number - l->n_queued - (l->current != NULL),
                                   .unused_since_us = list_empty(&l->unused) ? USEC_NEVER : l->unused_since_us,
                           });
}

const struct leases_totals *leases_totals(const struct leases *t) {
        return &t->totals;
}

const char *job_end_name(enum job_end end) {
        static const char *const names[] = {
                [JOB_END_OK] = "ok",         [JOB_END_FAILED] = "failed",       [JOB_END_TIMEOUT] = "timeout",
                [JOB_END_KILLED] = "killed", [JOB_END_CANCELLED] = "cancelled", [JOB_END_UNKNOWN] = "unknown",
        };

        return names[end];
}
