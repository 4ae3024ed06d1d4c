/* SPDX-License-Identifier: MIT */
#include "rig.h"

#include <errno.h>

#include "pool/lease/limits.h"
#include "pool/util/clock.h"

#define SECOND USEC_PER_SEC

/* A core with an idle environment, and nothing that is due. */
static void start_idle(void) {
        rig_start();
        rig.config.keepalive_us = rig.config.idle_timeout_us = 0;
        pool_prewarm(rig.pool, 1);
        rig_run(SIM_DELAY_US);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        CHECK_INT(rig_tick(), USEC_NEVER);
}

/* What a tick's own grant makes due is in that tick's answer: */

/* the time at which a job is given up that does not start, */
static void start_of_a_job(void) {
        struct lease *l;
        struct job *j;

        start_idle();
        l = rig_lease("t");
        j = rig_job(l, "sleep");
        CHECK_INT(rig_tick(), sim.now_us + START_TIMEOUT_US);
        CHECK_INT(j->state, JOB_STARTING);
        job_unref(j);
        rig_stop();
}

/* the time at which a job is tried again that this machine could not start, */
static void shortage(void) {
        struct lease *l;
        struct job *j;
        int64_t due;

        start_idle();
        rig.backend.rates.exec_refused = 1000;
        for (;;) {
                l = rig_lease("t");
                j = rig_job(l, "sleep");
                due = rig_tick();
                job_unref(j);
                if (rig.backend.refusal == -EMFILE) /* it is in half of the cases, by chance */
                        break;
                lease_release(l);
                rig_run(SECOND);
        }
        CHECK_INT(due, sim.now_us + STARVED_AGAIN_US);
        rig.backend.rates.exec_refused = 0;
        rig_stop();
}

/* and the time at which a lease is called forgotten. */
static void warning(void) {
        start_idle();
        rig.config.held_warning_us = 60 * SECOND;
        rig_lease("t");
        CHECK_INT(rig_tick(), sim.now_us + 60 * SECOND);
        rig_stop();
}

static int count_environment(void *data, const struct journal_environment *row) {
        ++*(unsigned *)data;
        return 0;
}

static int count_lease(void *data, const struct journal_lease *row) {
        ++*(unsigned *)data;
        return 0;
}

static unsigned environments_in_journal(void) {
        unsigned n = 0;

        CHECK_INT(journal_each_environment(rig.journal, count_environment, &n), 0);
        return n;
}

static unsigned leases_in_journal(void) {
        unsigned n = 0;

        CHECK_INT(journal_each_lease(rig.journal, count_lease, &n), 0);
        return n;
}

/* A lease with a job that runs for ever. */
static void start_with_job(void) {
        struct lease *l;

        rig_start();
        l = rig_lease("t");
        job_unref(rig_job(l, "sleep"));
        rig_run(SIM_DELAY_US);
        rig_prolong(lease_environment(l));
        rig_run(SECOND);
        CHECK_INT(lease_current(l)->state, JOB_RUNNING);
}

/* A core that took up nothing ends nothing, and is not told later that it could have. */
static void stopped_before_the_backend_is_ready(void) {
        start_with_job();
        rig_kill();
        rig_open(BACKEND_TO_CREATE);
        CHECK_INT(rig_tick(), USEC_NEVER);
        core_stop(rig.core, false);
        CHECK(core_is_empty(rig.core));
        backend_ready(&rig.backend.backend, &(struct result){});
        CHECK_INT(rig_tick(), USEC_NEVER);
        CHECK_INT(leases_count(rig.table), 0);
        CHECK_INT(environments_in_journal(), 1);
        CHECK_INT(leases_in_journal(), 1);
        rig_restart();
        rig_run(SECOND);
        CHECK_INT(lease_current(leases_find(rig.table, "t"))->state, JOB_RUNNING);
        rig_stop();
}

/* Started only to end environments, it ends those of leases too, and keeps the rows of the leases. */
static void ends_environments_only(void) {
        start_with_job();
        rig_kill();
        rig_open(BACKEND_TO_END);
        backend_ready(&rig.backend.backend, &(struct result){});
        CHECK(!rig.table);
        CHECK_INT(pool_count_all(rig.pool), 1);
        core_stop(rig.core, false);
        rig_run(SECOND);
        CHECK(core_is_empty(rig.core));
        CHECK_INT(environments_in_journal(), 0);
        CHECK_INT(leases_in_journal(), 1);
        rig_stop();
}

int main(void) {
        RUN(start_of_a_job);
        RUN(shortage);
        RUN(warning);
        RUN(stopped_before_the_backend_is_ready);
        RUN(ends_environments_only);
        return check_done();
}
