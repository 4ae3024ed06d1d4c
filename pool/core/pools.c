/* SPDX-License-Identifier: MIT */
#include "pool/core/pools.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "pool/base/limits.h"
#include "pool/core/limits.h"
#include "pool/core/options.h"
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
                        .owner = all,
                },
        };
        list_init(&all->list);
        list_init(&all->ending);
        templates_init(&all->templates, parts);
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

static void forget(struct mount_pool *p) {
        p->open = false;
        HASH_DELETE(hh_name, p->all->by_name, p);
        HASH_DELETE(hh_serial, p->all->by_serial, p);
}

void pools_deinit(struct pools *all) {
        struct mount_pool *p, *tmp;

        list_for_each_safe (p, tmp, &all->ending, link)
                mount_pool_unref(p);
        list_for_each_safe (p, tmp, &all->list, link) {
                if (p != all->own)
                        forget(p);
                mount_pool_unref(p);
        }
        lease_registry_deinit(&all->registry);
        fleet_deinit(&all->fleet);
}

/* to find them */

unsigned pools_count(const struct pools *all) {
        return HASH_CNT(hh_name, all->by_name);
}

struct mount_pool *pools_find(const struct pools *all, const char *name) {
        struct mount_pool *p;

        HASH_FIND(hh_name, all->by_name, name, strlen(name), p);
        return p;
}

struct mount_pool *pools_find_serial(const struct pools *all, uint64_t serial) {
        struct mount_pool *p = all->own;

        if (serial)
                HASH_FIND(hh_serial, all->by_serial, &serial, sizeof(serial), p);
        return p;
}

struct mount_pool *pools_after(const struct pools *all, uint64_t serial) {
        struct mount_pool *p = pools_find_serial(all, serial);

        if (p)
                return p->link.next == &all->list ? NULL : list_entry(p->link.next, struct mount_pool, link);
        list_for_each (p, &all->list, link)
                if (p->serial > serial)
                        return p;
        return NULL;
}

/* to make and remove them */

static void add(struct mount_pool *p) {
        struct pools *all = p->all;

        p->open = true;
        list_add_tail(&all->list, &p->link);
        HASH_ADD_KEYPTR(hh_name, all->by_name, p->name, strlen(p->name), p);
        HASH_ADD(hh_serial, all->by_serial, serial, sizeof(p->serial), p);
        lease_registry_note_serial(&all->registry, p->serial);
        all->changed_wall_us = clock_read_us(CLOCK_REALTIME);
}

/* The log and the events of the mount, and its own. */
static void announce(struct mount_pool *p, const char *what) {
        log_info("pool=%s uid=%u: %s", p->name, (unsigned)p->uid, what);
        event_emit(p->all->own->ring, "pool", p->name, what, NULL, NULL);
        event_emit(p->ring, "pool", p->name, what, NULL, NULL);
}

int pools_make(struct pools *all, const char *name, uid_t uid, gid_t gid, struct mount_pool **out) {
        struct journal_pool row = {
                .serial = all->registry.last_serial + 1,
                .name = name,
                .uid = uid,
                .gid = gid,
                .created_wall_us = clock_read_us(CLOCK_REALTIME),
                .options = "{}",
        };
        int r = lease_check_name(name);

        if (r < 0)
                return r;
        if (pools_find(all, name))
                return -EEXIST;
        if (!all->parts->open)
                return -EOPNOTSUPP;
        if (all->stopping || leases_are_draining(all->own->leases) || pools_count(all) >= POOLS_MAX ||
            row.serial > LEASE_SERIAL_MAX)
                return -EAGAIN;
        r = mount_pool_new(out, all, &row);
        if (r < 0)
                return r;
        r = mount_pool_write(*out);
        if (r < 0) {
                mount_pool_unref(*out);
                return r;
        }
        add(*out);
        announce(*out, "made");
        return 0;
}

int pools_remove(struct mount_pool *p) {
        struct pools *all = p->all;

        if (leases_count(p->leases) > 0)
                return -ENOTEMPTY;
        (void)journal_drop_pool(all->parts->journal, p->serial); /* else the next run has it again, without leases */
        forget(p);
        list_remove(&p->link);
        list_add_tail(&all->ending, &p->link);
        leases_drain(p->leases, true);
        pool_stop(p->pool);
        all->changed_wall_us = clock_read_us(CLOCK_REALTIME);
        announce(p, "removed");
        return 0;
}

/* after a restart */

static int restore_pool(void *data, const struct journal_pool *row) {
        struct mount_pool *p;
        int r = mount_pool_new(&p, data, row);

        if (r == 0)
                add(p);
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
                announce(p, "ended");
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
}

void pools_stop(struct pools *all, bool keep) {
        struct mount_pool *p;

        all->stopping = true;
        all->keeps = keep;
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
        return backend_count(all->parts->backend) + count_sandboxes(&all->list) + count_sandboxes(&all->ending) == 0;
}
