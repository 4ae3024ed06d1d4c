/* SPDX-License-Identifier: MIT */
#include "pool/core/pools.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "pool/base/limits.h"
#include "pool/core/limits.h"
#include "pool/core/options.h"
#include "pool/core/pool-table.h"
#include "pool/core/snapshot-pool.h"
#include "pool/lease/restore.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

/* Everything goes to the journal again. */
static int rewrite(void *owner) {
        struct pools *all = owner;
        struct journal *j = all->parts->journal;
        struct mount_pool *p;
        int r = journal_rewrite_begin(j);

        list_for_each (p, &all->list, link) {
                if (r == 0)
                        r = mount_pool_write(p);
                if (r == 0)
                        r = pool_write(p->pool);
                if (r == 0)
                        r = leases_write(p->leases);
        }
        list_for_each (p, &all->ending, link)
                if (r == 0)
                        r = pool_write(p->pool);
        if (r == 0)
                r = snapshots_write(&all->snapshots);
        return journal_rewrite_end(j, r);
}

int pools_init(struct pools *all, const struct core_parts *parts) {
        int r;

        *all = (struct pools){
                .parts = parts,
                .registry = {
                        .config = parts->config,
                        .journal = parts->journal,
                        .audit = parts->audit,
                        .spool_dir = parts->spool_dir,
                        .clock = parts->clock,
                        .rewrite = rewrite,
                        .snapshot = pools_take_snapshot,
                        .owner = all,
                },
        };
        list_init(&all->list);
        list_init(&all->ending);
        templates_init(&all->templates, parts);
        pools_init_snapshots(all);
        fleet_init(&all->fleet, parts->backend, parts->config);
        r = lease_registry_init(&all->registry);
        if (r == 0)
                r = mount_pool_new_own(&all->own, all);
        if (r < 0)
                return r;
        all->own->open = true;
        list_add_tail(&all->list, &all->own->link);
        return 0;
}

void pools_deinit(struct pools *all) {
        struct mount_pool *p, *tmp;

        list_for_each_safe (p, tmp, &all->ending, link)
                mount_pool_unref(p);
        list_for_each_safe (p, tmp, &all->list, link) {
                if (p != all->own)
                        pools_forget(p);
                mount_pool_unref(p);
        }
        snapshots_deinit(&all->snapshots);
        lease_registry_deinit(&all->registry);
        fleet_deinit(&all->fleet);
}

/* after a restart */

static int restore_pool(void *data, const struct journal_pool *row) {
        struct mount_pool *p;
        int r = mount_pool_new(&p, data, row);

        if (r == 0)
                pools_add(p);
        return r;
}

/*
 * The pools that the configuration file names belong to the daemon's user. The options in the file count unless the pool's
 * own ctl has set them.
 */
static int make_from_file(struct pools *all) {
        struct mount_pool *p;
        struct result why;
        const char *name;
        json_t *options;
        int r = 0;

        json_object_foreach (all->parts->config->pools, name, options) {
                p = pools_find(all, name);
                if (!p)
                        r = pools_make(all, name, geteuid(), getegid(), &p);
                if (r == 0)
                        r = pool_options_from_file(p->config, all->parts->config, options, &why);
                if (r < 0)
                        return r;
                pool_config_changed(p->pool);
        }
        return 0;
}

/* To end environments, the mount's own pool does for all. */
static struct mount_pool *pool_of_row(struct pools *all, uint64_t serial) {
        return all->parts->use == BACKEND_TO_CREATE ? pools_find_serial(all, serial) : all->own;
}

static struct pool *find_pool(void *data, uint64_t serial) {
        struct mount_pool *p = pool_of_row(data, serial);

        return p ? p->pool : NULL;
}

static struct leases *find_leases(void *data, uint64_t serial) {
        struct mount_pool *p = pool_of_row(data, serial);

        return p ? p->leases : NULL;
}

int pools_restore(struct pools *all) {
        int r = 0;

        if (all->parts->use == BACKEND_TO_CREATE)
                r = journal_each_pool(all->parts->journal, restore_pool, all);
        if (r == 0 && all->own->leases)
                r = make_from_file(all);
        /* Environments first: leases look up the ones that they hold. */
        if (r == 0)
                r = pools_restore_environments(&all->fleet, all->parts->journal, find_pool, all);
        if (r == 0)
                r = pools_restore_snapshots(all);
        if (r == 0 && all->own->leases)
                r = leases_restore(all->own->leases, find_leases, all);
        return r;
}

/* what is due */

static int64_t tick_ending(struct pools *all, int64_t now) {
        int64_t next = USEC_NEVER;
        struct mount_pool *p, *tmp;

        list_for_each_safe (p, tmp, &all->ending, link) {
                next = clock_earlier(next, pool_tick(p->pool, now));
                if (!pool_is_empty(p->pool))
                        continue;
                pools_announce(p, "ended");
                mount_pool_drop_snapshot(p);
                list_remove(&p->link);
                mount_pool_close(p);
                mount_pool_unref(p);
        }
        return next;
}

int64_t pools_tick(struct pools *all) {
        int64_t now = all->parts->clock(), next = fleet_tick(&all->fleet, now);
        struct mount_pool *p;

        do {
                list_for_each (p, &all->list, link)
                        next = clock_earlier(next, mount_pool_tick(p, now));
        } while (fleet_is_wanted(&all->fleet) && fleet_serve(&all->fleet, now, &next));
        if (!list_empty(&all->ending))
                next = clock_earlier(next, tick_ending(all, now));
        if (!list_empty(&all->templates.queue) && !all->stopping && templates_tick(&all->templates))
                next = now; /* its pool has to act on that */
        /*
         * A write failed, and a later one succeeded. If this fails too, the next write that succeeds brings us here
         * again.
         */
        if (!all->keeps && all->own->leases && journal_is_stale(all->parts->journal))
                (void)rewrite(all);
        return next;
}

static void stop(struct mount_pool *p, bool keep) {
        /* The pool first, so that it does not clean the environments that leases give back now. */
        if (keep)
                pool_leave(p->pool);
        else
                pool_stop(p->pool);
        if (p->leases)
                leases_stop(p->leases, keep);
        if (p->serial && !keep)
                (void)journal_drop_pool(p->all->parts->journal, p->serial);
        if (!keep)
                mount_pool_drop_snapshot(p);
}

void pools_stop(struct pools *all, bool keep) {
        struct mount_pool *p;

        all->stopping = true;
        all->keeps = all->snapshots.keeps = keep;
        fleet_stop(&all->fleet);
        list_for_each (p, &all->list, link)
                stop(p, keep);
        if (keep)
                list_for_each (p, &all->ending, link)
                        pool_leave(p->pool);
}

static unsigned count_sandboxes(const struct list *pools) {
        const struct mount_pool *p;
        unsigned n = 0;

        list_for_each (p, pools, link)
                n += p->template.backend ? backend_count(p->template.backend) : 0;
        return n;
}

bool pools_are_empty(const struct pools *all) {
        return backend_count(all->parts->backend) + count_sandboxes(&all->list) + count_sandboxes(&all->ending) == 0 &&
               snapshots_are_settled(&all->snapshots);
}
