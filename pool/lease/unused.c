/* SPDX-License-Identifier: MIT */
#include "pool/lease/unused.h"

#include <stdio.h>

#include "pool/lease/lease-body.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

void lease_note_use(struct lease *l) {
        struct leases *t = l->table;
        int64_t period = t->config->held_warning_us;
        bool unused = l->state == LEASE_LEASED && l->n_running == 0 && l->n_queued == 0;

        if (unused == !list_empty(&l->unused))
                return;
        list_remove(&l->unused);
        if (!unused)
                return;
        l->unused_since_us = t->clock();
        l->warn_us = period ? clock_after(l->unused_since_us, period) : USEC_NEVER;
        list_add_tail(&t->unused, &l->unused); /* the period is the same for all, so they stand in order */
}

static void warn_of(struct lease *l, int64_t now) {
        char held[TEXT_DURATION_SIZE], why[128];

        snprintf(why, sizeof(why), "has held environment %s for %s without a job; rmdir gives it back",
                 environment_id(l->claim.environment), text_from_usec(now - l->unused_since_us, held));
        log_warning("lease=%s environment=%s owner=%u: %s", l->name, environment_id(l->claim.environment), (unsigned)l->uid, why);
        event_emit(l->table->events, "lease", l->name, "unused", NULL, why);
}

void leases_warn_unused(struct leases *t, int64_t now) {
        struct lease *l;

        while ((l = list_first(&t->unused, struct lease, unused)) && l->warn_us <= now) {
                warn_of(l, now);
                l->warn_us = clock_after(now, t->config->held_warning_us);
                list_remove(&l->unused);
                list_add_tail(&t->unused, &l->unused);
        }
}
