/* SPDX-License-Identifier: MIT */

/* The pools of a mount: how they come and go, their templates, and what a restart keeps. */

#include "rig.h"

#include <errno.h>

#include "pool/environment/limits.h"
#include "pool/util/clock.h"

#define SECOND USEC_PER_SEC

static struct mount_pool *make(const char *name) {
        struct mount_pool *p = NULL;

        CHECK_INT(pools_make(rig.pools, name, 1000, 100, &p), 0);
        return p;
}

static struct lease *lease_in(struct mount_pool *p, const char *name) {
        struct lease *l = NULL;

        CHECK_INT(lease_create(p->leases, name, 1000, 100, &l), 0);
        return l;
}

static void come_and_go(void) {
        struct mount_pool *a, *b, *p;

        rig_start();
        a = make("a");
        b = make("b");
        CHECK_INT(pools_make(rig.pools, "a", 1000, 100, &p), -EEXIST);
        CHECK_INT(pools_make(rig.pools, ".a", 1000, 100, &p), -EINVAL);
        CHECK_INT(pools_make(rig.pools, "@a", 1000, 100, &p), -EINVAL);
        CHECK_INT(pools_make(rig.pools, "", 1000, 100, &p), -EINVAL);
        CHECK(pools_find(rig.pools, "a") == a && pools_find_serial(rig.pools, b->serial) == b);
        CHECK(pools_find_serial(rig.pools, 0) == rig.pools->own);
        CHECK(pools_after(rig.pools, 0) == a && pools_after(rig.pools, a->serial) == b && !pools_after(rig.pools, b->serial));
        /* Serials are of the same numbers as those of leases. */
        CHECK(lease_serial(rig_lease("t")) > b->serial);
        CHECK_INT(pools_remove(a), 0);
        CHECK(!pools_find(rig.pools, "a") && pools_after(rig.pools, 0) == b && pools_after(rig.pools, 1) == b);
        leases_drain(rig.table, true);
        CHECK_INT(pools_make(rig.pools, "c", 1000, 100, &p), -EAGAIN);
        rig_stop();
}

/* Nothing is started before something is needed; then leases run in environments of their own pool. */
static void a_lease_in_a_pool(void) {
        struct mount_pool *p;
        struct lease *l, *own;
        struct job *j;

        rig_start();
        p = make("p");
        rig_run(SECOND);
        CHECK_INT(rig.templates.n_made, 0);
        own = rig_lease("t");
        l = lease_in(p, "t"); /* the name is free: it is another directory */
        j = rig_job(l, "true");
        rig_run(SECOND);
        CHECK_INT(p->template.state, TEMPLATE_READY);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_INT(j->state, JOB_ENDED);
        CHECK_INT(pool_count(p->pool, ENVIRONMENT_LEASED), 1);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_LEASED), 1);
        CHECK(p->made);
        CHECK_INT(pools_remove(p), -ENOTEMPTY);
        lease_release(l);
        lease_release(own);
        rig_run(SECOND);
        CHECK_INT(pool_count(p->pool, ENVIRONMENT_IDLE), 1);
        /* What an open file looks at stays. */
        mount_pool_ref(p);
        CHECK_INT(pools_remove(p), 0);
        CHECK_INT(pool_count(p->pool, ENVIRONMENT_ENDING), 1);
        rig_run(SECOND);
        CHECK(!p->pool && !p->open);
        CHECK(list_empty(&rig.templates.list));
        mount_pool_unref(p);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        job_unref(j);
        rig_stop();
}

/* Each lease of a pool whose image cannot be built fails with the reason; other pools do not notice. */
static void no_image(void) {
        struct mount_pool *p;
        struct lease *l, *later, *own;

        rig_start();
        rig.templates.refused = true;
        p = make("p");
        l = lease_in(p, "t");
        own = rig_lease("t");
        rig_run(SECOND);
        CHECK_INT(p->template.state, TEMPLATE_FAILED);
        CHECK_INT(lease_state(l), LEASE_FAILED);
        CHECK(strstr(lease_error(l), "image none cannot be built: there is none"));
        CHECK(strstr(pool_trouble(p->pool)->text, "image none cannot be built"));
        CHECK_INT(lease_state(own), LEASE_LEASED);
        CHECK(!pool_trouble(rig.pool));
        CHECK(!p->made);
        later = lease_in(p, "later");
        rig_run(SECOND);
        CHECK_INT(lease_state(later), LEASE_FAILED);
        CHECK_INT(rig.templates.n_made, 1);
        /* A pause later one more try is made, for a lease that wants it. */
        rig.templates.refused = false;
        rig_run(BREAKER_PAUSE_US);
        CHECK_INT(rig.templates.n_made, 1);
        later = lease_in(p, "again");
        rig_run(SECOND);
        CHECK_INT(lease_state(later), LEASE_LEASED);
        CHECK_INT(rig.templates.n_made, 2);
        rig_stop();
}

/* Few templates start at a time, and each does in the end; one that is removed gives its place to another. */
static void builds(void) {
        struct mount_pool *p[20];
        char name[8];

        rig_start();
        rig.config.builds = 3;
        for (int i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "p%d", i);
                p[i] = make(name);
                if (i > 0)
                        lease_in(p[i], "t");
        }
        pool_prewarm(p[0]->pool, 1);
        rig_run(0);
        CHECK_INT(rig.templates.n_starting, 3);
        CHECK_INT(p[0]->template.state, TEMPLATE_STARTING);
        CHECK_INT(pools_remove(p[0]), 0);
        rig_run(0);
        CHECK_INT(rig.templates.n_starting, 3);
        CHECK_INT(rig.templates.n_made, 4);
        rig_run(SECOND);
        for (int i = 1; i < 20; i++)
                CHECK_INT(pool_count(p[i]->pool, ENVIRONMENT_LEASED), 1);
        CHECK_INT(rig.templates.n_starting_most, 3);
        rig_stop();
}

static int count_pool(void *data, const struct journal_pool *row) {
        ++*(unsigned *)data;
        return 0;
}

static unsigned pools_in_journal(void) {
        unsigned n = 0;

        CHECK_INT(journal_each_pool(rig.journal, count_pool, &n), 0);
        return n;
}

/* A restart keeps pools, their options, leases, jobs and environments; what was removed ends. */
static void restart(void) {
        struct mount_pool *p, *gone;
        struct lease *l;
        char id[SANDBOX_ID_MAX];

        rig_start();
        rig_lease("t");
        p = make("p");
        gone = make("gone");
        pool_prewarm(gone->pool, 1);
        l = lease_in(p, "t");
        job_unref(rig_job(l, "sleep"));
        rig_run(2 * SIM_DELAY_US);
        rig_prolong(lease_environment(l));
        rig_run(SECOND);
        snprintf(id, sizeof(id), "%s", lease_environment(l));
        CHECK_INT(pool_count(gone->pool, ENVIRONMENT_IDLE), 1);
        CHECK_INT(pools_remove(gone), 0);
        rig_restart();
        CHECK_INT(pools_in_journal(), 1);
        p = pools_find(rig.pools, "p");
        CHECK(p && p->uid == 1000 && p->gid == 100 && p->made);
        CHECK_INT(p->template.state, TEMPLATE_NONE);
        rig_run(SECOND);
        l = leases_find(p->leases, "t");
        CHECK(l && leases_find(rig.table, "t") && leases_find(rig.table, "t") != l);
        CHECK_STR(lease_environment(l), id);
        CHECK_INT(lease_current(l)->state, JOB_RUNNING);
        CHECK_INT(pool_count_all(p->pool), 1);
        CHECK_INT(pool_count_all(rig.pool), 1); /* what the pool had that was removed has ended */
        CHECK(!pools_find(rig.pools, "gone"));
        CHECK(make("q")->serial > lease_serial(l));
        core_stop(rig.core, false);
        CHECK_INT(pools_in_journal(), 0);
        rig_stop();
}

/* max_total: what one pool leaves idle ends for another. */
static void idle_ends_for_another(void) {
        struct mount_pool *a, *b;
        struct lease *l;

        rig_start();
        rig.config.max_total = 2;
        a = make("a");
        b = make("b");
        pool_prewarm(a->pool, 2);
        rig_run(SECOND);
        CHECK_INT(pool_count(a->pool, ENVIRONMENT_IDLE), 2);
        l = lease_in(b, "t");
        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_INT(pool_count_all(a->pool), 1);
        /* What nobody leaves idle is waited for, and the lease says so. */
        lease_in(a, "t");
        l = lease_in(b, "u");
        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_WAITING);
        CHECK(strstr(lease_error(l), "max_total=2"));
        lease_release(leases_find(a->leases, "t"));
        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_INT(pool_count_all(a->pool), 0);
        /* Nothing is kept ready in place of what somebody has; once there is room, it is. */
        a->config->min = 1;
        pool_config_changed(a->pool);
        rig_run(SECOND);
        CHECK_INT(pool_count_all(a->pool), 0);
        rig.config.max_total = 3;
        rig_run(SECOND);
        CHECK_INT(pool_count(a->pool, ENVIRONMENT_IDLE), 1);
        rig_stop();
}

/* A pool whose leases come and go lends its environment again and again, but passes over another max_total times at most. */
static void passed_over(void) {
        struct mount_pool *a, *b;
        struct lease *l;
        unsigned n = 0;

        rig_start();
        rig.config.max_total = rig.config.max = 3;
        a = make("a");
        b = make("b");
        for (int i = 0; i < 3; i++)
                lease_in(a, (char[]){ 'x', '0' + i, 0 });
        rig_run(SECOND);
        CHECK_INT(pool_count(a->pool, ENVIRONMENT_LEASED), 3);
        l = lease_in(b, "t");
        rig_run(SECOND);
        for (; lease_state(l) == LEASE_WAITING && n < 100; n++) {
                struct lease *old = leases_find(a->leases, "x0"), *again;

                lease_release(old);
                again = lease_in(a, "x0"); /* and at once the next one wants it */
                rig_run(SECOND);
                if (lease_state(again) == LEASE_WAITING)
                        break;
        }
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_INT(n, 3);
        rig_stop();
}

/* Many leases in few environments: all are served, and there are never more environments than max_total. */
static void shared(void) {
        struct mount_pool *p[3];
        unsigned served[3] = {};
        char name[16];

        rig_start();
        rig.config.max_total = 8;
        rig.config.max = 8;
        for (int i = 0; i < 3; i++) {
                snprintf(name, sizeof(name), "p%d", i);
                p[i] = make(name);
                for (int k = 0; k < 20; k++) {
                        snprintf(name, sizeof(name), "t%d", k);
                        lease_in(p[i], name);
                }
        }
        for (int turn = 0; turn < 1000 && served[0] + served[1] + served[2] < 60; turn++) {
                unsigned all = 0;

                rig_run(SIM_DELAY_US / 2);
                for (int i = 0; i < 3; i++) {
                        struct lease *l = leases_after(p[i]->leases, 0), *next;

                        all += pool_count_all(p[i]->pool);
                        for (; l; l = next) {
                                next = leases_after(p[i]->leases, lease_serial(l));
                                if (lease_state(l) != LEASE_LEASED)
                                        continue;
                                lease_release(l);
                                served[i]++;
                                break; /* one a turn */
                        }
                }
                CHECK(all <= 8);
                /* None is far behind. */
                for (int i = 0; i < 3 && turn > 20; i++)
                        for (int k = 0; k < 3; k++)
                                CHECK(served[k] == 20 || served[i] < served[k] + 20);
        }
        CHECK_INT(served[0] + served[1] + served[2], 60);
        rig_stop();
}

/* creates and create_rate count for all pools together, and each gets its turn. */
static void creates_of_all(void) {
        struct mount_pool *p[10];
        char name[8];

        rig_start();
        rig.config.creates = 2;
        rig.config.create_rate = 20;
        for (int i = 0; i < 10; i++) {
                snprintf(name, sizeof(name), "p%d", i);
                p[i] = make(name);
                lease_in(p[i], "t");
                lease_in(p[i], "u");
        }
        rig_run(SECOND / 2 + 2 * SIM_DELAY_US);
        CHECK(rig.backend.totals.creates >= 9 && rig.backend.totals.creates <= 13);
        for (int i = 0; i < 10; i++) /* nobody gets a second one before all have one */
                CHECK(pool_count_all(p[i]->pool) <= 1 || rig.backend.totals.creates > 10);
        rig_run(2 * SECOND);
        for (int i = 0; i < 10; i++)
                CHECK_INT(pool_count(p[i]->pool, ENVIRONMENT_LEASED), 2);
        rig_stop();
}

int main(void) {
        RUN(come_and_go);
        RUN(a_lease_in_a_pool);
        RUN(no_image);
        RUN(builds);
        RUN(restart);
        RUN(idle_ends_for_another);
        RUN(passed_over);
        RUN(shared);
        RUN(creates_of_all);
        return check_done();
}
