/* SPDX-License-Identifier: MIT */
#include "pool/core/pools.h"

#include "pool/lease/restore.h"
#include "pool/util/clock.h"

/* Everything goes to the journal again. */
static int rewrite(void *owner) {
        struct pools *all = owner;
        struct journal *j = all->parts->journal;
        struct mount_pool *p;
        int r = journal_rewrite_begin(j);

        list_for_each (p, &all->list, link) {
                if (r == 0)
                        r = pool_write(p->pool);
                if (r == 0)
                        r = leases_write(p->leases);
        }
        return journal_rewrite_end(j, r);
}

int pools_init(struct pools *all, const struct core_parts *parts) {
        int r;

        *all = (struct pools){
                .parts = parts,
                .registry = {
                        .config = parts->config,
                        .journal = parts->journal,
                        .spool_dir = parts->spool_dir,
                        .clock = parts->clock,
                        .rewrite = rewrite,
                        .owner = all,
                },
        };
        list_init(&all->list);
        fleet_init(&all->fleet, parts->backend);
        r = lease_registry_init(&all->registry);
        return r < 0 ? r : mount_pool_new(&all->own, all);
}

void pools_deinit(struct pools *all) {
        struct mount_pool *p, *tmp;

        list_for_each_safe (p, tmp, &all->list, link)
                mount_pool_free(p);
        lease_registry_deinit(&all->registry);
        fleet_deinit(&all->fleet);
}

int pools_restore(struct pools *all) {
        int r;

        /* Environments first: leases look up the ones that they hold. */
        r = pool_restore(all->own->pool);
        if (r == 0 && all->own->leases)
                r = leases_restore(all->own->leases);
        return r;
}

static int64_t tick_pool(struct mount_pool *p, int64_t now) {
        int64_t next;

        if (!p->leases)
                return pool_tick(p->pool, now);
        /* Leases first: they free environments that the pool can grant. Grants in turn set deadlines of leases. */
        leases_tick(p->leases, now);
        next = pool_tick(p->pool, now);
        return clock_earlier(next, leases_due(p->leases));
}

int64_t pools_tick(struct pools *all) {
        int64_t now = all->parts->clock(), next = fleet_tick(&all->fleet, now);
        struct mount_pool *p;

        list_for_each (p, &all->list, link)
                next = clock_earlier(next, tick_pool(p, now));
        /*
         * A write failed, and a later one succeeded. If this fails too, the next write that succeeds brings us here
         * again.
         */
        if (!all->keeps && all->own->leases && journal_is_stale(all->parts->journal))
                (void)rewrite(all);
        return next;
}

void pools_stop(struct pools *all, bool keep) {
        struct mount_pool *p;

        all->keeps = keep;
        fleet_stop(&all->fleet);
        list_for_each (p, &all->list, link) {
                /* The pool first, so that it does not clean the environments that leases give back now. */
                if (keep)
                        pool_leave(p->pool);
                else
                        pool_stop(p->pool);
                if (p->leases)
                        leases_stop(p->leases, keep);
        }
}
