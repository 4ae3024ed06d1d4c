/* SPDX-License-Identifier: MIT */
#include "pool/lease/table.h"

/*
 * The table of a pool's leases: how they come and go, and what each of them needs from time to time.
 *
 * A lease's release begins here and goes down: to its jobs, to their execs, to its claim. What the pool has to say of a
 * claim comes here as an event, and goes down to the lease and its jobs.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/lease/files.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/lease/run.h"
#include "pool/lease/unused.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

int leases_new(struct leases **out, const struct leases_parts *parts) {
        struct leases *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        t->registry = parts->registry;
        t->pool = parts->pool;
        t->pool_serial = parts->serial;
        t->pool_name = parts->pool_name;
        t->config = parts->config;
        t->events = parts->ring;
        t->journal = parts->registry->journal;
        t->spool_dir = parts->registry->spool_dir;
        t->clock = parts->registry->clock;
        list_init(&t->list);
        deadlines_init(&t->deadlines);
        list_init(&t->starved);
        list_init(&t->unused);
        *out = t;
        return 0;
}

void leases_free(struct leases *t) {
        if (!t)
                return;
        assert(list_empty(&t->list));
        free(t->workdir);
        free(t);
}

int leases_set_workdir(struct leases *t, const char *workdir) {
        t->workdir = strdup(workdir);
        return t->workdir ? 0 : -ENOMEM;
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

        HASH_FIND(hh_serial, t->registry->by_serial, &serial, sizeof(serial), l);
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

static void on_granted(struct claim *c) {
        struct lease *l = container_of(c, struct lease, claim);

        lease_set_state(l, LEASE_LEASED, NULL);
        lease_resume(l);
}

static void on_failed(struct claim *c, const struct result *why) {
        struct lease *l = container_of(c, struct lease, claim);

        lease_end_jobs(l, why);
        lease_set_state(l, LEASE_FAILED, why);
}

static void on_lost(struct claim *c, const struct result *why) {
        struct lease *l = container_of(c, struct lease, claim);

        lease_end_files(l);
        lease_end_jobs(l, why);
        lease_set_state(l, LEASE_LOST, why);
}

static const struct claim_events claim_events = {
        .granted = on_granted,
        .failed = on_failed,
        .lost = on_lost,
};

int lease_check_name(const char *name) {
        size_t len = strlen(name);

        if (len > NAME_LEN_MAX)
                return -ENAMETOOLONG;
        /* Wherever it is shown, it is itself. */
        return len > 0 && !strchr(".@", name[0]) && !strchr(name, '/') && text_is_plain(name, len) ? 0 : -EINVAL;
}

struct lease *leases_make(struct leases *t, const char *name, uint64_t serial, uid_t uid, gid_t gid) {
        struct lease *l = lease_new(t, name, serial, uid, gid);

        if (l && pool_init_claim(t->pool, &l->claim, &claim_events, l->name, uid) < 0) {
                lease_unref(l);
                return NULL;
        }
        return l;
}

void leases_add(struct lease *l) {
        struct leases *t = l->table;

        list_add_tail(&t->list, &l->link);
        HASH_ADD_KEYPTR(hh_name, t->by_name, l->name, strlen(l->name), l);
        HASH_ADD(hh_serial, t->registry->by_serial, serial, sizeof(l->serial), l);
        t->changed_wall_us = l->changed_wall_us;
}

int lease_create(struct leases *t, const char *name, uid_t uid, gid_t gid, struct lease **out) {
        struct lease_registry *registry = t->registry;
        struct lease *l;
        int r;

        r = lease_check_name(name);
        if (r < 0)
                return r;
        if (leases_find(t, name))
                return -EEXIST;
        if (t->draining || lease_registry_count(registry) >= registry->config->max_leases ||
            registry->last_serial >= LEASE_SERIAL_MAX)
                return -EAGAIN;

        l = leases_make(t, name, registry->last_serial + 1, uid, gid);
        if (!l)
                return -ENOMEM;
        l->instance = registry->instance;
        l->created_us = t->clock();
        r = lease_write(l);
        if (r < 0) {
                lease_unref(l);
                return r;
        }
        registry->last_serial++;
        leases_add(l);
        lease_announce(l);
        pool_claim(t->pool, &l->claim);
        *out = l;
        return 0;
}

void lease_release(struct lease *l) {
        struct leases *t = l->table;
        struct result why;
        struct job *j;

        result_set(&why, RESULT_RELEASED, "lease %s was released", l->name);
        if (journal_drop_lease(t->journal, l->serial) < 0)
                pool_retire(t->pool, &l->claim); /* after a crash the lease is there again, and has that environment */
        lease_end_files(l);
        lease_end_jobs(l, &why);
        lease_set_state(l, LEASE_RELEASED, &why);
        pool_release(t->pool, &l->claim);
        pool_deinit_claim(t->pool, &l->claim);

        list_remove(&l->link);
        list_remove(&l->starved);
        HASH_DELETE(hh_name, t->by_name, l);
        HASH_DELETE(hh_serial, t->registry->by_serial, l);
        t->changed_wall_us = l->changed_wall_us;
        HASH_CLEAR(hh_name, l->by_job_name);
        list_move_all(&l->jobs, &l->named);
        while ((j = list_first(&l->jobs, struct job, link))) {
                list_remove(&j->link);
                job_unref(j);
        }
        l->table = NULL;
        lease_unref(l);
}

static unsigned count_starting(const struct lease *l) {
        const struct job *j;
        unsigned n = 0;

        list_for_each (j, &l->running, turn)
                n += j->state == JOB_STARTING;
        return n;
}

void leases_each(const struct leases *t, int64_t now, void (*each)(void *data, const struct lease_info *info),
                 void *data) {
        const struct lease *l;
        unsigned starting;

        list_for_each (l, &t->list, link) {
                starting = count_starting(l);
                each(data, &(struct lease_info){
                                   .name = l->name,
                                   .state = l->state,
                                   .uid = l->uid,
                                   .environment = lease_environment(l),
                                   .created_us = l->created_us,
                                   .wait_us = l->state == LEASE_WAITING ? now - l->claim.since_us : l->claim.waited_us,
                                   .current = l->current,
                                   .starting = starting,
                                   .running = l->n_running - starting,
                                   .queued = l->n_queued,
                                   .ended = l->n_over,
                                   .unused_since_us = list_empty(&l->unused) ? USEC_NEVER : l->unused_since_us,
                           });
        }
}

const struct leases_totals *leases_totals(const struct leases *t) {
        return &t->totals;
}

uint64_t leases_spool_bytes(const struct leases *t) {
        return quota_bytes(t->registry->quota);
}

bool leases_are_draining(const struct leases *t) {
        return t->draining;
}

void leases_drain(struct leases *t, bool drain) {
        t->draining = drain;
}

static int write_jobs(const struct lease *l, const struct list *jobs) {
        struct journal_job row;
        struct job *j;
        int r = 0;

        list_for_each (j, jobs, link)
                if (r == 0) {
                        row = job_row(j, l->serial);
                        r = journal_add_job(l->table->journal, &row);
                        j->written_as_starting = false; /* what waits is written as it is */
                }
        return r;
}

int leases_write(struct leases *t) {
        struct lease *l;
        int r = 0;

        list_for_each (l, &t->list, link) {
                if (r == 0)
                        r = lease_write(l);
                if (r == 0)
                        r = write_jobs(l, &l->jobs);
                if (r == 0)
                        r = write_jobs(l, &l->named);
                if (r == 0)
                        r = write_jobs(l, &l->forgotten);
        }
        return r;
}

int64_t leases_due(const struct leases *t) {
        const struct lease *unused = list_first(&t->unused, struct lease, unused);
        int64_t due = clock_earlier(t->deadlines.next_us, unused ? unused->warn_us : USEC_NEVER);

        return list_empty(&t->starved) ? due : clock_earlier(due, t->starved_us);
}

void leases_tick(struct leases *t, int64_t now) {
        if (leases_due(t) > now)
                return;
        leases_tick_jobs(t, now);
        leases_warn_unused(t, now);
}

static void keep_jobs(const struct list *jobs) {
        struct job *j;

        list_for_each (j, jobs, link)
                job_keep(j);
}

void leases_stop(struct leases *t, bool keep) {
        struct lease *l, *tmp;

        t->draining = true;
        if (keep) {
                t->journal = NULL; /* what happens from here on is not for the next run */
                list_for_each (l, &t->list, link) {
                        keep_jobs(&l->jobs);
                        keep_jobs(&l->named);
                        keep_jobs(&l->forgotten);
                }
        }
        list_for_each_safe (l, tmp, &t->list, link)
                lease_release(l);
}
