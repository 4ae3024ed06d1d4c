/* SPDX-License-Identifier: MIT */

/* Snapshots of environments, the pools that are made of them, and what a restart makes of both. */

#include "rig.h"

#include <errno.h>

#include "pool/core/options.h"
#include "pool/environment/limits.h"
#include "pool/lease/ctl.h"
#include "pool/lease/files.h"
#include "pool/util/clock.h"

#define SECOND USEC_PER_SEC

/* A lease of the mount's own pool that has its environment. */
static struct lease *ready_lease(const char *name) {
        struct lease *l = rig_lease(name);

        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        return l;
}

static int snapshot(struct lease *l, const char *name) {
        char line[300];

        snprintf(line, sizeof(line), "snapshot %s", name);
        return lease_command(l, NULL, line);
}

static struct lease *lease_in(struct mount_pool *p, const char *name) {
        struct lease *l = NULL;

        CHECK_INT(lease_create(p->leases, name, 1000, 100, &l), 0);
        return l;
}

static int count_row(void *data, const struct journal_snapshot *row) {
        ++*(unsigned *)data;
        return 0;
}

/* Snapshots in the journal. */
static unsigned rows(void) {
        unsigned n = 0;

        CHECK_INT(journal_each_snapshot(rig.journal, count_row, &n), 0);
        return n;
}

/* Everything ends, and neither the journal nor the provider has any snapshot left. */
static void stop(void) {
        core_stop(rig.core, false);
        rig_run(60 * SECOND);
        CHECK_INT(rows(), 0);
        CHECK_INT(sim_snapshots_count(&rig.backend), 0);
        rig_stop();
}

/* Leases made before it is ready wait; each gets an environment of its own, which ends with it. */
static void forks(void) {
        struct mount_pool *p;
        struct lease *origin, *l[8];
        char name[8];

        rig_start();
        origin = ready_lease("t");
        CHECK_INT(snapshot(origin, "s"), 0);
        CHECK(!lease_error(origin));
        CHECK_INT(rows(), 1);
        p = pools_find(rig.pools, "s");
        CHECK(p && p->uid == 1000 && p->gid == 100);
        CHECK_STR(mount_pool_progress(p), "taking");
        CHECK_INT(p->config->reset, RESET_ENVIRONMENT);
        p->config->max = 8;
        for (int i = 0; i < 8; i++) {
                snprintf(name, sizeof(name), "f%d", i);
                l[i] = lease_in(p, name);
        }
        rig_run(SIM_DELAY_US / 2);
        CHECK_INT(rig.templates.n_made, 0);
        rig_run(SECOND);
        CHECK_STR(mount_pool_progress(p), "ready");
        for (int i = 0; i < 8; i++)
                CHECK_INT(lease_state(l[i]), LEASE_LEASED);
        CHECK_STR(lease_workdir(l[0]), "/root/hermes_tasks/t");
        job_unref(rig_job(l[0], "true"));
        rig_run(SECOND);
        CHECK_INT(rig.backend.totals.snapshots, 1);
        lease_release(l[0]);
        rig_run(SECOND);
        CHECK_INT(pool_count_all(p->pool), 7);
        CHECK_INT(lease_state(origin), LEASE_LEASED);
        for (int i = 1; i < 8; i++)
                lease_release(l[i]);
        /* Deleted once its environments are gone. */
        CHECK_INT(pools_remove(p), 0);
        CHECK_INT(rows(), 1);
        rig_run(SECOND);
        CHECK_INT(rows(), 0);
        CHECK_INT(sim_snapshots_count(&rig.backend), 0);
        stop();
}

/* Of a snapshot's own lease another one can be taken. */
static void of_a_fork(void) {
        struct lease *l;

        rig_start();
        CHECK_INT(snapshot(ready_lease("t"), "s"), 0);
        l = lease_in(pools_find(rig.pools, "s"), "f");
        rig_run(SECOND);
        CHECK_INT(snapshot(l, "s2"), 0);
        rig_run(SECOND);
        l = lease_in(pools_find(rig.pools, "s2"), "g");
        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_STR(lease_workdir(l), "/root/hermes_tasks/t");
        CHECK_INT(sim_snapshots_count(&rig.backend), 2);
        stop();
}

static void refused(void) {
        struct lease *waiting, *l;
        struct mount_pool *p;
        struct result why;

        rig_start();
        waiting = rig_lease("w");
        CHECK_INT(snapshot(waiting, "s"), -EBUSY);
        CHECK(strstr(lease_error(waiting), "no environment yet"));
        l = ready_lease("t");
        CHECK_INT(snapshot(l, ""), -EINVAL);
        CHECK_INT(snapshot(l, "@s"), -EINVAL);
        CHECK(strstr(lease_error(l), "a name that a pool can have"));
        CHECK_INT(snapshot(l, "s"), 0);
        CHECK_INT(snapshot(l, "s"), -EEXIST);
        CHECK(strstr(lease_error(l), "there is a pool of this name"));
        CHECK_INT(snapshot(l, "u"), -EBUSY);
        CHECK_INT(rows(), 1);
        rig_run(SECOND);
        /* What it begins as, and how often it is used, cannot change. */
        p = pools_find(rig.pools, "s");
        CHECK_INT(mount_pool_set(p, "reset", "clean", true, &why), -EPERM);
        CHECK_INT(mount_pool_set(p, "max", "3", false, &why), 0);
        leases_drain(rig.table, true);
        CHECK_INT(snapshot(l, "v"), -EBUSY);
        leases_drain(rig.table, false);
        /* Its environment has died. */
        sim_sandbox_die(sim_backend_find(&rig.backend, lease_environment(l)));
        rig_run(0);
        CHECK_INT(snapshot(l, "v"), -ENODEV);
        CHECK_INT(rows(), 1);
        stop();
}

/* Leases that wait fail with the reason, and later ones at once. */
static void fails(void) {
        struct mount_pool *p;
        struct lease *l;

        rig_start();
        rig.backend.rates.snapshot_fails = 1000;
        CHECK_INT(snapshot(ready_lease("t"), "s"), 0);
        p = pools_find(rig.pools, "s");
        l = lease_in(p, "f");
        rig_run(SECOND);
        CHECK_STR(mount_pool_progress(p), "failed");
        CHECK_INT(lease_state(l), LEASE_FAILED);
        CHECK_INT(lease_code(l), RESULT_INVALID);
        CHECK_STR(lease_error(l), "the snapshot failed: snapshot: the disk is full");
        l = lease_in(p, "g");
        rig_run(0);
        CHECK_INT(lease_state(l), LEASE_FAILED);
        pool_retry(p->pool); /* resume */
        rig_run(2 * BREAKER_PAUSE_US);
        CHECK_INT(lease_state(l), LEASE_FAILED);
        l = lease_in(p, "h");
        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_FAILED);
        CHECK_INT(rig.templates.n_made, 0);
        /* The next run knows it, too. */
        rig_restart();
        rig_run(SECOND);
        p = pools_find(rig.pools, "s");
        CHECK_STR(mount_pool_progress(p), "failed");
        l = lease_in(p, "i");
        rig_run(SECOND);
        CHECK(strstr(lease_error(l), "the disk is full"));
        stop();
}

/* The environment waits for its snapshot, however its lease ends; then it is clean before the next has it. */
static void released_meanwhile(void) {
        struct lease *l;
        struct job *j;

        rig_start();
        l = ready_lease("t");
        j = rig_job(l, "true");
        rig_run(SECOND);
        rig.backend.rates.delay_max_us = 0;
        CHECK_INT(snapshot(l, "s"), 0);
        lease_release(l);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_CLEANING), 1);
        CHECK_INT(rig.backend.totals.cleaned, 0);
        rig_run(SIM_DELAY_US + 1);
        CHECK_STR(mount_pool_progress(pools_find(rig.pools, "s")), "none");
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_CLEANING), 1);
        rig_run(SECOND);
        CHECK_INT(rig.backend.totals.cleaned, 1);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        job_unref(j);
        stop();
}

/* Its environment dies: it failed. Its pool is removed: it is taken, and deleted. */
static void ends_meanwhile(void) {
        struct lease *l;

        rig_start();
        l = ready_lease("t");
        CHECK_INT(snapshot(l, "s"), 0);
        sim_sandbox_die(sim_backend_find(&rig.backend, lease_environment(l)));
        rig_run(SECOND);
        CHECK_STR(mount_pool_progress(pools_find(rig.pools, "s")), "failed");
        CHECK_INT(lease_state(l), LEASE_LOST);
        l = ready_lease("u");
        CHECK_INT(snapshot(l, "v"), 0);
        CHECK_INT(pools_remove(pools_find(rig.pools, "v")), 0);
        rig_run(SIM_DELAY_US / 2);
        CHECK_INT(rows(), 2);
        rig_run(SECOND);
        CHECK_INT(rows(), 1);
        CHECK_INT(sim_snapshots_count(&rig.backend), 0);
        /* The mount ends while one is being taken. */
        CHECK_INT(snapshot(l, "x"), 0);
        stop();
}

/* Killed while it is being taken: the next run asks for it again by its id, and the provider has one. */
static void killed_while_taking(void) {
        struct mount_pool *p;
        struct lease *l;

        for (unsigned seed = 0; seed < 10; seed++) {
                rig_start();
                for (unsigned i = 0; i < seed; i++)
                        (void)sim_below(2);
                l = ready_lease("t");
                CHECK_INT(snapshot(l, "s"), 0);
                lease_in(pools_find(rig.pools, "s"), "f");
                rig_restart();
                p = pools_find(rig.pools, "s");
                CHECK_STR(mount_pool_progress(p), "taking");
                rig_run(SECOND);
                CHECK_INT(lease_state(leases_find(p->leases, "f")), LEASE_LEASED);
                CHECK_INT(sim_snapshots_count(&rig.backend), 1);
                CHECK_INT(rig.backend.totals.snapshots, 2);
                stop();
        }
}

/* Likewise, and the lease was released: the environment is taken back, and cleaned behind the snapshot. */
static void killed_after_release(void) {
        struct lease *l;

        rig_start();
        l = ready_lease("t");
        job_unref(rig_job(l, "true"));
        rig_run(SECOND);
        CHECK_INT(snapshot(l, "s"), 0);
        lease_release(l);
        rig_restart();
        rig_run(SECOND);
        CHECK_STR(mount_pool_progress(pools_find(rig.pools, "s")), "none");
        CHECK_INT(rig.backend.totals.snapshots, 2);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        stop();
}

/* Likewise, and the environment died meanwhile: there is nothing to ask. */
static void killed_and_gone(void) {
        struct mount_pool *p;
        struct lease *l;

        rig_start();
        rig.backend.rates.adopt_fails = 1000;
        CHECK_INT(snapshot(ready_lease("t"), "s"), 0);
        rig_restart();
        p = pools_find(rig.pools, "s");
        l = lease_in(p, "f");
        rig_run(SECOND);
        CHECK_STR(mount_pool_progress(p), "failed");
        CHECK_INT(lease_state(l), LEASE_FAILED);
        sim_snapshots_forget(&rig.backend); /* by its own time limit */
        stop();
}

/* Killed while it is ready, and while it is being deleted. */
static void killed_later(void) {
        struct mount_pool *p;
        struct lease *l;

        rig_start();
        CHECK_INT(snapshot(ready_lease("t"), "s"), 0);
        rig_run(SECOND);
        rig_restart();
        p = pools_find(rig.pools, "s");
        l = lease_in(p, "f");
        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_STR(lease_workdir(l), "/root/hermes_tasks/t");
        lease_release(l);
        CHECK_INT(pools_remove(p), 0);
        while (p->open || rows() == 1) {
                rig_run(SIM_DELAY_US / 2);
                if (rig.pools->snapshots.n && list_first(&rig.pools->snapshots.list, struct snapshot, link)->state == SNAPSHOT_DELETING)
                        break;
        }
        CHECK_INT(rows(), 1);
        rig_restart();
        rig_run(SECOND);
        CHECK_INT(rows(), 0);
        CHECK_INT(sim_snapshots_count(&rig.backend), 0);
        stop();
}

/* The journal has it, and its pool was never made; and a start that only ends things. */
static void without_a_pool(void) {
        rig_start();
        CHECK_INT(snapshot(ready_lease("t"), "s"), 0);
        CHECK_INT(journal_drop_pool(rig.journal, pools_find(rig.pools, "s")->serial), 0);
        rig_restart();
        CHECK(!pools_find(rig.pools, "s"));
        rig_run(SECOND);
        CHECK_INT(rows(), 0);
        CHECK_INT(sim_snapshots_count(&rig.backend), 0);
        CHECK_INT(snapshot(leases_find(rig.table, "t"), "s"), 0);
        rig_run(SECOND);
        rig_kill();
        rig_open(BACKEND_TO_END);
        backend_ready(&rig.backend.backend, &(struct result){});
        stop();
}

/* What cannot be deleted now is tried again by the next run. */
static void not_deleted(void) {
        rig_start();
        CHECK_INT(snapshot(ready_lease("t"), "s"), 0);
        rig_run(SECOND);
        rig.backend.rates.delete_snapshot_fails = 1000;
        CHECK_INT(pools_remove(pools_find(rig.pools, "s")), 0);
        rig_run(SECOND);
        CHECK_INT(rig.pools->snapshots.n, 0);
        CHECK_INT(rows(), 1);
        rig.backend.rates.delete_snapshot_fails = 0;
        rig_restart();
        rig_run(SECOND);
        stop();
}

int main(void) {
        RUN(forks);
        RUN(of_a_fork);
        RUN(refused);
        RUN(fails);
        RUN(released_meanwhile);
        RUN(ends_meanwhile);
        RUN(killed_while_taking);
        RUN(killed_after_release);
        RUN(killed_and_gone);
        RUN(killed_later);
        RUN(without_a_pool);
        RUN(not_deleted);
        return check_done();
}
