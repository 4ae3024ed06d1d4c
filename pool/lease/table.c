/* SPDX-License-Identifier: MIT */

/* The table of all leases. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "pool/lease/internal.h"
#include "pool/util/clock.h"

int leases_new(struct leases **out, struct pool *pool, const struct config *config, struct event_ring *events,
               struct journal *journal, int spool_dir, int64_t (*clock)(void)) {
        struct leases *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        if (getrandom(&t->instance, sizeof(t->instance), 0) != sizeof(t->instance)) {
                free(t);
                return -errno;
        }
        t->pool = pool;
        t->config = config;
        t->events = events;
        t->journal = journal;
        t->spool_dir = spool_dir;
        t->clock = clock;
        t->next_deadline_us = USEC_NEVER;
        list_init(&t->list);
        list_init(&t->running);
        list_init(&t->starved);
        list_init(&t->unused);
        *out = t;
        return 0;
}

void leases_free(struct leases *t) {
        if (!t)
                return;
        assert(list_empty(&t->list));
        free(t);
}

unsigned leases_count(const struct leases *t) {
        return HASH_CNT(hh_name, t->by_name);
}

int64_t leases_changed_wall_us(const struct leases *t) {
        return t->changed_wall_us;
}

struct lease *leases_find(struct leases *t, const char *name) {
        struct lease *l;

        HASH_FIND(hh_name, t->by_name, name, strlen(name), l);
        return l;
}

struct lease *leases_find_serial(struct leases *t, uint64_t serial) {
        struct lease *l;

        HASH_FIND(hh_serial, t->by_serial, &serial, sizeof(serial), l);
        return l;
}

struct lease *leases_after(struct leases *t, uint64_t serial) {
        struct lease *l = leases_find_serial(t, serial);

        if (l)
                return l->link.next == &t->list ? NULL : list_entry(l->link.next, struct lease, link);
        list_for_each (l, &t->list, link)
                if (l->serial > serial)
                        return l;
        return NULL;
}

void leases_drain(struct leases *t, bool drain) {
        t->draining = drain;
}

int leases_rewrite(struct leases *t) {
        struct journal_job row;
        struct lease *l;
        struct job *j;
        int r = journal_rewrite_begin(t->journal);

        if (r == 0)
                r = pool_write(t->pool);
        list_for_each (l, &t->list, link) {
                if (r == 0)
                        r = lease_write(l);
                list_for_each (j, &l->jobs, link)
                        if (r == 0) {
                                row = job_row(j, l->serial);
                                r = journal_add_job(t->journal, &row);
                                j->written_as_starting = false; /* what waits is written as it is */
                        }
        }
        return journal_rewrite_end(t->journal, r);
}

void leases_stop(struct leases *t, bool keep) {
        struct lease *l, *tmp;
        struct job *j;

        t->draining = true;
        if (keep) {
                t->journal = NULL; /* what happens from here on is not for the next run */
                pool_leave(t->pool);
                list_for_each (l, &t->list, link)
                        list_for_each (j, &l->jobs, link)
                                job_keep(j);
        }
        list_for_each_safe (l, tmp, &t->list, link)
                lease_release(l);
}
