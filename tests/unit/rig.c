/* SPDX-License-Identifier: MIT */
#include "rig.h"

#include "pool/environment/internal.h"
#include "pool/lease/internal.h"
#include "pool/lease/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

struct rig rig;

static void on_found(void *owner, const struct sandbox_found *found) {
        pool_found(rig.pool, found);
}

static void on_listed(void *owner, const struct result *r) {
        pool_listed(rig.pool, r);
}

static void new_core(void) {
        CHECK_INT(pool_new(&rig.pool, &rig.backend.backend, &rig.config, rig.events, rig.journal, sim_clock, 1), 0);
        CHECK_INT(leases_new(&rig.table, rig.pool, &rig.config, rig.events, rig.journal, rig.dir.fd, sim_clock), 0);
}

void rig_start(void) {
        static const struct backend_events events = { .found = on_found, .listed = on_listed };
        struct result why;
        bool damaged;

        log_open(-1, false);
        sim_reset(1, 0);
        CHECK_INT(config_init(&rig.config), 0);
        CHECK_INT(config_set(&rig.config, "max", "2", CONFIG_COMMAND_LINE, &why), 0);
        rig.dir = check_dir_make();
        rig.lag = (struct lag){};
        sim_backend_init(&rig.backend, &(struct sim_rates){}, NULL);
        CHECK_INT(event_ring_new(&rig.events), 0);
        CHECK_INT(backend_start(&rig.backend.backend, BACKEND_TO_CREATE, &events, NULL), 0);
        CHECK_INT(journal_open(&rig.journal, ":memory:", "simulated", sim_clock, &damaged, &why), 0);
        new_core();
}

void rig_restart(void) {
        sim_backend_end_core(&rig.backend, SIM_CORE_CRASHES);
        rig.pool->environments.journal = rig.table->journal = NULL;
        leases_stop(rig.table, true);
        pool_leave(rig.pool);
        sim_backend_let_go(&rig.backend);
        leases_free(rig.table);
        pool_free(rig.pool);
        new_core();
        CHECK_INT(pool_restore(rig.pool), 0);
        CHECK_INT(leases_restore(rig.table), 0);
}

struct status_sources rig_sources(void) {
        return (struct status_sources){
                .pool = rig.pool,
                .leases = rig.table,
                .config = &rig.config,
                .lag = &rig.lag,
                .now_us = sim.now_us,
        };
}

void rig_run(int64_t us) {
        int64_t end = sim.now_us + us, due, pool_due;

        for (;;) {
                struct timer *t;

                leases_tick(rig.table);
                pool_due = pool_tick(rig.pool);
                due = leases_due(rig.table);
                due = pool_due < due ? pool_due : due;
                t = timer_next();
                if (t && t->at_us <= end && t->at_us <= due)
                        timer_fire(t);
                else if (due <= end)
                        sim.now_us = due > sim.now_us ? due : sim.now_us;
                else
                        break;
        }
        sim.now_us = end;
}

void rig_stop(void) {
        leases_stop(rig.table, false);
        pool_stop(rig.pool);
        rig_run(60 * USEC_PER_SEC);
        CHECK(pool_is_empty(rig.pool));
        leases_free(rig.table);
        pool_free(rig.pool);
        sim_backend_forget_strays(&rig.backend);
        backend_free(&rig.backend.backend);
        journal_close(rig.journal);
        event_ring_free(rig.events);
        config_deinit(&rig.config);
        check_dir_remove(&rig.dir);
        sim_free();
}

struct lease *rig_lease_of(const char *name, uid_t uid) {
        struct lease *l = NULL;

        CHECK_INT(lease_create(rig.table, name, uid, 100, &l), 0);
        return l;
}

struct lease *rig_lease(const char *name) {
        return rig_lease_of(name, 1000);
}

struct job *rig_job(struct lease *l, const char *command) {
        struct blob b;
        struct job *j = NULL;

        blob_init(&b, rig.dir.fd, COMMAND_SIZE_MAX);
        CHECK_INT(blob_append(&b, command, strlen(command)), 0);
        CHECK_INT(lease_draft(l, &j), 0);
        CHECK_INT(lease_submit(l, j, &b), 0);
        CHECK_INT(b.size, 0);
        blob_deinit(&b);
        return j;
}

void rig_prolong(const char *environment) {
        struct sim_sandbox *s = sim_backend_find(&rig.backend, environment);

        CHECK(s && s->exec);
        s->exec->duration_us = 1000000 * USEC_PER_SEC;
}

void rig_hold(const char *environment, bool ignores_kill) {
        struct sim_sandbox *s = sim_backend_find(&rig.backend, environment);

        CHECK(s && s->exec);
        timer_cancel(&s->exec->timer);
        s->exec->ignores_kill = ignores_kill;
}
