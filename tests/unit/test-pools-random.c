/* SPDX-License-Identifier: MIT */

/*
 * Pools that share a mount, over the simulated provider: random makers of pools, leases, snapshots and forks, faults and
 * crashes, by seed.
 *
 * After each tick: no pool has more than its max, the mount has no more than max_total, no more templates start than builds,
 * nothing stands idle for which a pool waits, and no pool is passed over more than max_total times before a place is on its
 * way to it. After a crash the next core has what the records have. In the end every lease is served, but for forks of a
 * snapshot that failed; and no snapshot is left whose name any core was told.
 */

#include "rig.h"

#include <errno.h>

#include "pool/core/options.h"
#include "pool/environment/pool-body.h"
#include "pool/lease/ctl.h"
#include "pool/util/clock.h"
#include "tests/model/sim.h"

#define SECOND USEC_PER_SEC
#define POOLS 9
#define SNAPSHOT 6
#define LEASES 12 /* names in each */
#define STEPS 1500

/* What there is to be: pools and leases by name. The pools behind SNAPSHOT are made by snapshots. */
static bool pools[POOLS], leases[POOLS][LEASES];
static unsigned n_served, n_crashes, n_refused_images, n_snapshots, n_forks, n_failed;

static const char *name_of(char kind, int n) {
        static char name[8];

        snprintf(name, sizeof(name), "%c%d", kind, n);
        return name;
}

static struct mount_pool *pool_of(int i) {
        return pools_find(rig.pools, name_of('p', i));
}

/* the invariants */

static unsigned count_all(const struct list *list, bool check_max) {
        struct mount_pool *p;
        unsigned n = 0;

        list_for_each (p, list, link) {
                unsigned all = pool_count_all(p->pool);

                if (check_max)
                        CHECK(all - pool_count(p->pool, ENVIRONMENT_ENDING) <= p->config->max);
                n += all;
        }
        return n;
}

static void check_queue(unsigned all) {
        const struct fleet *f = &rig.pools->fleet;
        const struct fleet_member *m;
        unsigned coming = f->count[ENVIRONMENT_ENDING] + rig.config.max_total - all, waiting = 0;

        list_for_each (m, &f->queue, queue) {
                waiting++;
                if (coming > 0)
                        coming--;
                else if (rig.config.create_rate == 0) /* else it may be the rate that it waits for */
                        CHECK(f->n_lent_again - m->since <= rig.config.max_total);
        }
        if (all >= rig.config.max_total)
                CHECK(f->count[ENVIRONMENT_IDLE] == 0 || f->count[ENVIRONMENT_ENDING] >= waiting);
}

static void check(void) {
        unsigned all = count_all(&rig.pools->list, true) + count_all(&rig.pools->ending, false), counted = 0;

        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                counted += rig.pools->fleet.count[i];
        CHECK_INT(counted, all);
        CHECK(all <= rig.config.max_total);
        CHECK(rig.templates.n_starting <= rig.config.builds);
        check_queue(all);
}

static void run_for(int64_t us) {
        int64_t end = sim.now_us + us;

        while (sim.now_us < end && !check_failed_now) {
                rig_run(sim.now_us + SIM_DELAY_US < end ? SIM_DELAY_US : end - sim.now_us);
                check();
        }
}

/* what users do */

static void make_or_release_lease_of(int i, int k) {
        struct mount_pool *p = pool_of(i);
        struct lease *l;

        l = leases_find(p->leases, name_of('t', k));
        CHECK_INT(l != NULL, leases[i][k]);
        if (l) {
                n_served += lease_state(l) == LEASE_LEASED;
                n_forks += lease_state(l) == LEASE_LEASED && p->snapshot;
                n_failed += lease_state(l) == LEASE_FAILED && p->snapshot;
                lease_release(l);
        } else {
                CHECK_INT(lease_create(p->leases, name_of('t', k), 1000, 100, &l), 0);
                job_unref(rig_job(l, "true"));
        }
        leases[i][k] = !leases[i][k];
}

static void make_or_remove_pool(int i) {
        struct mount_pool *p = pool_of(i);
        bool used = false;
        char max[2] = { '1' + sim_below(4), 0 };
        struct result why;

        CHECK_INT(p != NULL, pools[i]);
        if (!p && i >= SNAPSHOT)
                return;
        for (int k = 0; k < LEASES; k++)
                if (i >= SNAPSHOT && leases[i][k])
                        make_or_release_lease_of(i, k);
                else
                        used = used || leases[i][k];
        if (!p) {
                CHECK_INT(pools_make(rig.pools, name_of('p', i), 1000, 100, &p), 0);
                CHECK_INT(mount_pool_set(p, "max", max, false, &why), 0);
        } else {
                CHECK_INT(pools_remove(p), used ? -ENOTEMPTY : 0);
        }
        pools[i] = used || !pools[i];
}

static void make_or_release_lease(int i) {
        if (pool_of(i))
                make_or_release_lease_of(i, sim_below(LEASES));
}

/* One that has its environment, or NULL. */
static struct lease *any_ready_lease(int *i, int *k) {
        unsigned from = sim_below(POOLS * LEASES);

        for (unsigned n = from; n < from + POOLS * LEASES; n++) {
                struct mount_pool *p = pool_of(*i = n / LEASES % POOLS);
                struct lease *l = p ? leases_find(p->leases, name_of('t', *k = n % LEASES)) : NULL;

                if (l && lease_state(l) == LEASE_LEASED)
                        return l;
        }
        return NULL;
}

static void release_ready_lease(void) {
        int i, k;

        if (any_ready_lease(&i, &k))
                make_or_release_lease_of(i, k);
}

/* Also of a fork. One at a time of each environment. */
static void take_snapshot(int i) {
        int r, from, number;
        struct lease *l = pools[i] ? NULL : any_ready_lease(&from, &number);
        char line[20];

        if (!l)
                return;
        snprintf(line, sizeof(line), "snapshot p%d", i);
        r = lease_command(l, NULL, line);
        CHECK(r == 0 || r == -EBUSY || r == -ENODEV);
        pools[i] = r == 0;
        n_snapshots += r == 0;
}

/* The next core has the pools and leases that there were. */
static void crash(void) {
        unsigned n = 0;

        rig_restart();
        n_crashes++;
        for (int i = 0; i < POOLS; i++) {
                struct mount_pool *p = pool_of(i);

                CHECK_INT(p != NULL, pools[i]);
                for (int k = 0; p && k < LEASES; k++)
                        CHECK_INT(leases_find(p->leases, name_of('t', k)) != NULL, leases[i][k]);
        }
        for (int i = 0; i < POOLS; i++)
                n += pools[i];
        CHECK_INT(pools_count(rig.pools), n);
}

static void step(void) {
        unsigned what = sim_below(100);

        if (what < 10)
                make_or_remove_pool(sim_below(POOLS));
        else if (what < 70)
                make_or_release_lease(sim_below(POOLS));
        else if (what < 72)
                crash();
        else if (what < 74)
                n_refused_images += rig.templates.refused = sim_chance(300);
        else if (what < 78)
                take_snapshot(SNAPSHOT + sim_below(POOLS - SNAPSHOT));
        else if (what < 92)
                release_ready_lease();
        else if (what < 98)
                run_for(sim_below(20 * SIM_DELAY_US));
        else
                run_for(sim_below(60 * SECOND));
        (void)rig_tick();
        check();
}

/* Everything that waits is served, once what is lent comes back. */
static void serve_all(void) {
        unsigned left = 1;

        rig.templates.refused = false;
        for (int i = 0; i < POOLS; i++)
                if (pool_of(i))
                        pool_retry(pool_of(i)->pool);
        for (int turn = 0; left > 0 && turn < 1000 && !check_failed_now; turn++) {
                run_for(10 * SIM_DELAY_US);
                left = 0;
                for (int i = 0; i < POOLS; i++)
                        for (int k = 0; pools[i] && k < LEASES; k++) {
                                struct lease *l = leases_find(pool_of(i)->leases, name_of('t', k));

                                n_served += l && lease_state(l) == LEASE_LEASED;
                                if (l && lease_state(l) != LEASE_WAITING)
                                        lease_release(l);
                                else
                                        left += l != NULL;
                        }
        }
        CHECK_INT(left, 0);
}

static void run_seed(uint64_t seed) {
        memset(pools, 0, sizeof(pools));
        memset(leases, 0, sizeof(leases));
        rig_start();
        sim_reset(seed, 0);
        rig.config.max_total = 2 + sim_below(5);
        rig.config.builds = 1 + sim_below(3);
        rig.config.oversubscribe = false;
        rig.config.wait_us = 100000 * SECOND;
        if (sim_chance(500))
                rig.config.create_rate = 5 + sim_below(50);
        rig.backend.rates.create_fails = sim_chance(500) ? 100 : 0;
        rig.backend.rates.snapshot_fails = sim_chance(500) ? 200 : 0;
        for (int i = 0; i < STEPS && !check_failed_now; i++)
                step();
        serve_all();
        if (check_failed_now)
                printf("# seed %" PRIu64 "\n", seed);
        core_stop(rig.core, false);
        rig_run(60 * SECOND);
        CHECK_INT(sim_snapshots_heard(&rig.backend), 0);
        sim_snapshots_forget(&rig.backend);
        rig_stop();
}

static void seeds(void) {
        for (uint64_t seed = 1; seed <= 20 && !check_failed_now; seed++)
                run_seed(seed);
        printf("# %u leases were served, %u of them forks of %u snapshots, %u forks failed; %u crashes, %u times images could not be built\n",
               n_served, n_forks, n_snapshots, n_failed, n_crashes, n_refused_images);
        CHECK(n_served > 500 && n_crashes > 200 && n_refused_images > 50);
        CHECK(n_snapshots > 100 && n_forks > 50 && n_failed > 50);
}

int main(void) {
        RUN(seeds);
        return check_done();
}
