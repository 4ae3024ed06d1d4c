/* SPDX-License-Identifier: MIT */
#include "pool/core/pool-table.h"

#include <errno.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/core/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

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

void pools_add(struct mount_pool *p) {
        struct pools *all = p->all;

        p->open = true;
        list_add_tail(&all->list, &p->link);
        HASH_ADD_KEYPTR(hh_name, all->by_name, p->name, strlen(p->name), p);
        HASH_ADD(hh_serial, all->by_serial, serial, sizeof(p->serial), p);
        lease_registry_note_serial(&all->registry, p->serial);
        all->changed_wall_us = clock_read_us(CLOCK_REALTIME);
}

void pools_forget(struct mount_pool *p) {
        p->open = false;
        HASH_DELETE(hh_name, p->all->by_name, p);
        HASH_DELETE(hh_serial, p->all->by_serial, p);
}

void pools_announce(struct mount_pool *p, const char *what) {
        log_info("pool=%s uid=%u: %s", p->name, (unsigned)p->uid, what);
        event_emit(p->all->own->ring, "pool", p->name, what, NULL, NULL);
        event_emit(p->ring, "pool", p->name, what, NULL, NULL);
}

int pools_check_new(const struct pools *all, const char *name) {
        int r = lease_check_name(name);

        if (r < 0)
                return r;
        if (pools_find(all, name))
                return -EEXIST;
        if (!all->parts->open)
                return -EOPNOTSUPP;
        if (all->stopping || leases_are_draining(all->own->leases) || pools_count(all) >= POOLS_MAX ||
            all->registry.last_serial >= LEASE_SERIAL_MAX)
                return -EAGAIN;
        return 0;
}

int pools_make_with(struct pools *all, const char *name, uid_t uid, gid_t gid, const char *options,
                    struct mount_pool **out) {
        int r = mount_pool_new(out, all, &(struct journal_pool){
                                                 .serial = all->registry.last_serial + 1,
                                                 .name = name,
                                                 .uid = uid,
                                                 .gid = gid,
                                                 .created_wall_us = clock_read_us(CLOCK_REALTIME),
                                                 .options = options,
                                         });

        if (r < 0)
                return r;
        r = mount_pool_write(*out);
        if (r < 0) {
                mount_pool_unref(*out);
                return r;
        }
        pools_add(*out);
        pools_announce(*out, "made");
        return 0;
}

int pools_make(struct pools *all, const char *name, uid_t uid, gid_t gid, struct mount_pool **out) {
        int r = pools_check_new(all, name);

        return r < 0 ? r : pools_make_with(all, name, uid, gid, "{}", out);
}

int pools_remove(struct mount_pool *p) {
        struct pools *all = p->all;

        if (leases_count(p->leases) > 0)
                return -ENOTEMPTY;
        (void)journal_drop_pool(all->parts->journal, p->serial); /* else the next run has it again, without leases */
        pools_forget(p);
        list_remove(&p->link);
        list_add_tail(&all->ending, &p->link);
        leases_drain(p->leases, true);
        pool_stop(p->pool);
        all->changed_wall_us = clock_read_us(CLOCK_REALTIME);
        pools_announce(p, "removed");
        return 0;
}
