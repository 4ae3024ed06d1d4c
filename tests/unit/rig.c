/* SPDX-License-Identifier: MIT */
#include "rig.h"

#include "pool/environment/pool-body.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/lease/submit.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

struct rig rig;

static void on_ready(void *owner, const struct result *r) {
        CHECK_INT(core_restore(rig.core), 0);
}

static void on_notice(void *owner, const char *line) {
}

void rig_open(enum backend_use use) {
        static const struct core_events events = { .ready = on_ready, .notice = on_notice };
        const struct core_parts parts = {
                .use = use,
                .config = &rig.config,
                .backend = &rig.backend.backend,
                .open = sim_template_open,
                .owner = &rig.templates,
                .journal = rig.journal,
                .spool_dir = rig.dir.fd,
                .clock = sim_clock,
                .seed = 1,
        };

        CHECK_INT(core_new(&rig.core, &parts), 0);
        rig.events = core_event_ring(rig.core);
        rig.pools = core_pools(rig.core);
        rig.pool = core_pool(rig.core);
        rig.table = core_leases(rig.core);
        CHECK_INT(core_start(rig.core, &events, NULL), 0);
}

static void open_ready(void) {
        rig_open(BACKEND_TO_CREATE);
        backend_ready(&rig.backend.backend, &(struct result){});
}

void rig_start(void) {
        struct result why;
        bool damaged;

        log_open(-1, false);
        sim_reset(1, 0);
        CHECK_INT(config_init(&rig.config, NULL), 0);
        CHECK_INT(config_set(&rig.config, "max", "2", CONFIG_COMMAND_LINE, &why), 0);
        rig.dir = check_dir_make();
        rig.lag = (struct lag){};
        sim_backend_init(&rig.backend, &(struct sim_rates){}, NULL);
        rig.backend.cannot_list = true;
        sim_templates_init(&rig.templates, &rig.backend);
        CHECK_INT(journal_open(&rig.journal, ":memory:", "simulated", sim_clock, &damaged, &why), 0);
        open_ready();
}

void rig_kill(void) {
        struct mount_pool *p;

        sim_backend_end_core(&rig.backend, SIM_CORE_CRASHES);
        list_for_each (p, &rig.pools->list, link)
                p->pool->environments.journal = p->leases->journal = NULL;
        list_for_each (p, &rig.pools->ending, link)
                p->pool->environments.journal = NULL;
        core_stop(rig.core, true);
        sim_backend_let_go(&rig.backend);
        core_free(rig.core);
}

void rig_restart(void) {
        rig_kill();
        open_ready();
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

int64_t rig_tick(void) {
        return core_tick(rig.core);
}

void rig_run(int64_t us) {
        int64_t end = sim.now_us + us, due;

        for (;;) {
                struct timer *t;

                due = rig_tick();
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
        core_stop(rig.core, false);
        rig_run(60 * USEC_PER_SEC);
        CHECK(core_is_empty(rig.core));
        core_free(rig.core);
        sim_backend_forget_strays(&rig.backend);
        backend_free(&rig.backend.backend);
        journal_close(rig.journal);
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

/* The job that was started there last. */
static struct sim_exec *newest_exec(const char *environment) {
        struct sim_sandbox *s = sim_backend_find(&rig.backend, environment);

        CHECK(s && !list_empty(&s->execs));
        return list_last(&s->execs, struct sim_exec, link);
}

void rig_prolong(const char *environment) {
        newest_exec(environment)->duration_us = 1000000 * USEC_PER_SEC;
}

void rig_hold(const char *environment, bool ignores_kill) {
        struct sim_exec *x = newest_exec(environment);

        timer_cancel(&x->timer);
        x->ignores_kill = ignores_kill;
}
