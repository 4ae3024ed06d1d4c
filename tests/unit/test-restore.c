/* SPDX-License-Identifier: MIT */

/* What a daemon that was killed left, step by step; the simulation has all of it at random. */

#include <errno.h>
#include <limits.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"
#include "pool/lease/ctl.h"
#include "pool/lease/limits.h"
#include "pool/lease/set.h"
#include "pool/util/clock.h"
#include "pool/util/uuid.h"

#define SECOND USEC_PER_SEC

/* The journal's disk: a bit for each of the next writes, the lowest first; where it is set, the write fails. */
static uint64_t full;

/* By the linker's --wrap. */
int __real_sqlite3_step(sqlite3_stmt *s);
int __wrap_sqlite3_step(sqlite3_stmt *s);
int __wrap_sqlite3_step(sqlite3_stmt *s) {
        bool fails = full & 1;

        if (sqlite3_stmt_readonly(s))
                return __real_sqlite3_step(s);
        full >>= 1;
        return fails ? SQLITE_FULL : __real_sqlite3_step(s);
}

static struct sim_sandbox *sandbox_of(struct lease *l) {
        return sim_backend_find(&rig.backend, lease_environment(l));
}

static void running_job_is_followed(void) {
        struct lease *l;
        struct job *j;

        rig_start();
        l = rig_lease("t");
        job_unref(rig_job(l, "sleep"));
        rig_run(SIM_DELAY_US);
        rig_prolong(lease_environment(l));
        rig_run(SECOND);
        rig_restart();
        l = leases_find(rig.table, "t");
        CHECK(l && lease_state(l) == LEASE_WAITING);
        rig_run(10 * SIM_DELAY_US);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        j = lease_current(l);
        CHECK(j && j->state == JOB_RUNNING && !list_empty(&sandbox_of(l)->execs));
        CHECK_INT(rig.backend.totals.execs, 1);
        CHECK_INT(rig.backend.totals.resumed, 1);
        rig_stop();
}

/* Before the environment has answered nobody can be signalled; then all that was asked for is sent, each once. */
static void signals_wait_for_the_environment(void) {
        struct lease *l;

        rig_start();
        l = rig_lease("t");
        job_unref(rig_job(l, "sleep"));
        rig_run(SIM_DELAY_US);
        rig_prolong(lease_environment(l));
        rig_run(SECOND);
        rig_restart();
        l = leases_find(rig.table, "t");
        CHECK_INT(lease_command(l, NULL, "signal USR1"), 0);
        CHECK_INT(lease_command(l, NULL, "signal USR1"), 0);
        CHECK_INT(lease_command(l, NULL, "signal 64"), 0);
        CHECK_INT(rig.backend.totals.signals, 0);
        rig_run(10 * SIM_DELAY_US);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_INT(rig.backend.totals.signals, 2);
        rig_stop();
}

/* The provider does not say that the job is there: it is lost, and not for its timeout. */
static void silent_job_is_lost(void) {
        struct lease *l;
        struct job *j;

        rig_start();
        l = rig_lease("t");
        CHECK_INT(lease_set(l, NULL, SETTING_TIMEOUT, "0"), 0);
        job_unref(rig_job(l, "sleep"));
        rig_run(SIM_DELAY_US);
        rig_prolong(lease_environment(l));
        rig_run(SECOND);
        rig_restart();
        l = leases_find(rig.table, "t");
        rig_run(SIM_DELAY_US);
        timer_cancel(&list_first(&sandbox_of(l)->execs, struct sim_exec, link)->tell);
        j = job_ref(lease_current(l));
        rig_run(START_TIMEOUT_US - 1);
        CHECK_INT(j->state, JOB_RUNNING);
        rig_run(SECOND);
        CHECK_INT(j->state, JOB_ENDED);
        CHECK_INT(j->code, RESULT_LOST);
        CHECK(j->fate != JOB_FATE_TIMEOUT && j->error && strstr(j->error, "did not start"));
        CHECK_INT(lease_state(l), LEASE_LOST);
        job_unref(j);
        rig_stop();
}

static int forget_grant(void *data, const struct journal_lease *row) {
        struct journal_lease *out = data;

        *out = *row;
        out->name = "t";
        out->environment = out->error = NULL;
        out->state = LEASE_WAITING;
        out->cwd = out->env = "";
        return 0;
}

/* An earlier version let a name begin with an at sign. Such a lease stays until it is released. */
static void name_of_an_earlier_version(void) {
        struct journal_lease row;
        struct lease *l;

        rig_start();
        rig_lease("t");
        CHECK_INT(journal_each_lease(rig.journal, forget_grant, &row), 0);
        row.name = "@old";
        CHECK_INT(journal_put_lease(rig.journal, &row), 0);
        rig_restart();
        l = leases_find(rig.table, "@old");
        CHECK(l != NULL);
        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_INT(lease_create(rig.table, "@old", 1000, 100, &l), -EINVAL);
        lease_release(leases_find(rig.table, "@old"));
        CHECK(!leases_find(rig.table, "@old"));
        CHECK_INT(lease_create(rig.table, "@old", 1000, 100, &l), -EINVAL);
        rig_stop();
}

/* The grant could not be written, the start of the job could: it must not run again somewhere else. */
static void job_without_environment_is_lost(void) {
        struct journal_lease row;
        struct lease *l;

        rig_start();
        l = rig_lease("t");
        job_unref(rig_job(l, "sleep"));
        rig_run(SIM_DELAY_US);
        CHECK_INT(lease_current(l)->state, JOB_STARTING);
        rig_prolong(lease_environment(l));
        rig_run(SIM_DELAY_US);
        CHECK_INT(journal_each_lease(rig.journal, forget_grant, &row), 0);
        CHECK_INT(journal_put_lease(rig.journal, &row), 0);
        rig_restart();
        l = leases_find(rig.table, "t");
        CHECK_INT(lease_state(l), LEASE_LOST);
        CHECK(!lease_current(l) && lease_newest(l)->code == RESULT_LOST);
        rig_run(10 * SIM_DELAY_US);
        CHECK_INT(rig.backend.totals.execs, 1);
        CHECK_INT(rig.backend.totals.cleaned, 1);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        CHECK_INT(lease_command(l, NULL, "renew"), 0);
        rig_run(10 * SIM_DELAY_US);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_INT(rig.backend.totals.execs, 1);
        rig_stop();
}

/* After a crash the released lease would be there again, with its environment: so that ends, and nobody else gets it. */
static void kept_row_keeps_its_environment(void) {
        struct lease *old, *waiting;
        char id[SANDBOX_ID_MAX];

        rig_start();
        rig.config.max = 1;
        old = rig_lease("old");
        job_unref(rig_job(old, "true"));
        rig_run(SECOND);
        CHECK_INT(lease_state(old), LEASE_LEASED);
        snprintf(id, sizeof(id), "%s", lease_environment(old));
        waiting = rig_lease("waiting");
        full = UINT64_MAX;
        lease_release(old);
        rig_run(10 * SIM_DELAY_US);
        CHECK_INT(lease_state(waiting), LEASE_WAITING);
        CHECK_INT(pool_count_all(rig.pool), 0);
        full = 0;
        rig_run(10 * SECOND);
        CHECK_INT(lease_state(waiting), LEASE_LEASED);
        CHECK(strcmp(lease_environment(waiting), id) != 0);
        rig_stop();
}

/* The lease was lost, which could be written down; that its jobs have ended could not. */
static void jobs_of_a_lost_lease_have_ended(void) {
        struct lease *l;

        rig_start();
        l = rig_lease("t");
        for (int i = 0; i < 2; i++)
                job_unref(rig_job(l, "sleep"));
        rig_run(SIM_DELAY_US);
        rig_prolong(lease_environment(l));
        rig_run(SECOND);
        full = 3;
        sim_sandbox_die(sandbox_of(l));
        rig_restart();
        l = leases_find(rig.table, "t");
        CHECK_INT(lease_state(l), LEASE_LOST);
        for (uint32_t number = 1; number <= 2; number++) {
                struct job *j = lease_job(l, number);

                CHECK(job_ended(j) && j->code == RESULT_LOST && j->error);
        }
        rig_stop();
}

/* That the first was not started, because that could not be written down, could not be written down, too. */
static void job_that_was_not_started_stays_so(void) {
        struct lease *l;
        struct job *j;

        rig_start();
        l = rig_lease("t");
        for (int i = 0; i < 2; i++)
                job_unref(rig_job(l, "sleep"));
        rig_run(0);
        timer_fire(timer_next());
        full = 1 << 2 | 1 << 3; /* behind the rows of the environment and the lease, which has it now */
        (void)pool_tick(rig.pool, sim.now_us);
        j = lease_job(l, 1);
        CHECK(job_ended(j) && j->code == RESULT_CANCELLED);
        CHECK_INT(lease_job(l, 2)->state, JOB_STARTING);
        rig_prolong(lease_environment(l));
        rig_restart();
        l = leases_find(rig.table, "t");
        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        j = lease_job(l, 1);
        CHECK(job_ended(j) && j->code == RESULT_FAILED);
        CHECK_INT(lease_job(l, 2)->state, JOB_RUNNING);
        rig_stop();
}

/* It was to fail, and that could not be written down: nothing may be left in the journal of which it could be run. */
static void job_that_was_not_written_does_not_run(void) {
        struct lease *l;

        rig_start();
        l = rig_lease("t");
        rig_run(SECOND);
        full = 1 << 1 | 1 << 2;
        job_unref(rig_job(l, "true"));
        CHECK(job_ended(lease_job(l, 1)) && lease_job(l, 1)->code == RESULT_CANCELLED);
        rig_restart();
        rig_run(SECOND);
        l = leases_find(rig.table, "t");
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_INT(rig.backend.totals.execs, 0);
        rig_stop();
}

/* The row that says that the workdir is made was not written: the next job finds what the first left all the same. */
static void files_of_the_first_job_stay(void) {
        struct lease *l;
        struct job *j;

        rig_start();
        l = rig_lease("t");
        job_unref(rig_job(l, "true"));
        rig_run(SIM_DELAY_US);
        full = 1;
        while (!job_ended(lease_job(l, 1)))
                timer_fire(timer_next());
        CHECK(sandbox_of(l)->workdir_made);
        rig_restart();
        rig_run(SECOND);
        l = leases_find(rig.table, "t");
        j = rig_job(l, "true"); /* the provider knows when the workdir has to be emptied */
        rig_run(SECOND);
        CHECK(job_ended(j) && j->code == RESULT_OK);
        job_unref(j);
        rig_stop();
}

/* The end of a job in a lost environment is in the journal before the lease gets another. */
static void job_does_not_go_on_in_another_environment(void) {
        struct lease *l;

        rig_start();
        l = rig_lease("t");
        job_unref(rig_job(l, "sleep"));
        rig_run(SIM_DELAY_US);
        rig_prolong(lease_environment(l));
        rig_run(SECOND);
        full = 1;
        sim_sandbox_die(sandbox_of(l));
        full = 1;
        CHECK_INT(lease_command(l, NULL, "renew"), -ENOSPC);
        CHECK_INT(lease_state(l), LEASE_LOST);
        CHECK(strstr(lease_error(l), "renew"));
        CHECK_INT(lease_command(l, NULL, "renew"), 0);
        for (struct timer *t; (void)pool_tick(rig.pool, sim.now_us), t = timer_next();)
                timer_fire(t);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        rig_restart();
        rig_run(SECOND);
        l = leases_find(rig.table, "t");
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK(job_ended(lease_job(l, 1)) && lease_job(l, 1)->code == RESULT_LOST);
        CHECK_INT(rig.backend.totals.execs, 1);
        rig_stop();
}

/* The command of a released lease's job was in a file, which is gone. The next job must not get its number. */
static void job_without_files_has_ended(void) {
        static char padding[BLOB_MEMORY_MAX + 2];
        struct lease *l;
        struct job *j;

        rig_start();
        l = rig_lease("t");
        memset(padding, ' ', BLOB_MEMORY_MAX + 1);
        j = rig_job(l, padding);
        rig_run(SIM_DELAY_US);
        CHECK(j->state == JOB_STARTING && !blob_bytes(&j->command));
        job_unref(j);
        full = 3; /* that it is gone, and how its job ended */
        lease_release(l);
        full = 0;
        for (int i = 0; i < 2; i++) {
                rig_restart();
                l = leases_find(rig.table, "t");
                j = l ? lease_job(l, 1) : NULL;
                CHECK(j && job_ended(j) && j->code == RESULT_FAILED && strstr(j->error, "cannot be read"));
                rig_run(SECOND);
        }
        CHECK_INT(rig.backend.totals.execs, 1);
        j = rig_job(l, "true");
        CHECK_INT(j->number, 2);
        job_unref(j);
        rig_stop();
}

/* History keeps one job, and that one was not written: the row before it goes on telling which numbers are used up. */
static void number_is_not_used_twice(void) {
        struct lease *l;
        struct job *j;

        rig_start();
        rig.config.history = 1;
        l = rig_lease("t");
        job_unref(rig_job(l, "true"));
        rig_run(SECOND);
        CHECK(job_ended(lease_job(l, 1)));
        full = 1;
        job_unref(rig_job(l, "true"));
        CHECK(!lease_job(l, 1) && lease_job(l, 2)->code == RESULT_CANCELLED);
        rig_restart();
        rig_run(SECOND);
        j = rig_job(leases_find(rig.table, "t"), "true");
        CHECK_INT(j->number, 2);
        job_unref(j);
        rig_stop();
}

/* A job in a state that no version knows has ended, with the reason. The lease and its other jobs go on. */
static void unknown_state_of_a_job(void) {
        static const int states[] = { -1, JOB_N_STATES, INT_MAX };
        struct lease *l;
        struct job *j;

        for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
                struct journal_job row;

                rig_start();
                l = rig_lease("t");
                job_unref(rig_job(l, "true"));
                rig_run(SECOND);
                job_unref(rig_job(l, "true"));
                rig_run(SECOND);
                row = job_row(lease_job(l, 2), 1);
                row.state = states[i];
                CHECK_INT(journal_update_job(rig.journal, &row), 0);
                rig_restart();
                rig_run(SECOND);
                l = leases_find(rig.table, "t");
                CHECK_INT(lease_state(l), LEASE_LEASED);
                CHECK(lease_job(l, 1)->code == RESULT_OK);
                j = lease_job(l, 2);
                CHECK(job_ended(j) && j->code == RESULT_FAILED && strstr(j->error, "state in the journal is unknown"));
                CHECK_STR(job_state_name(j->state), "ended");
                j = rig_job(l, "true");
                CHECK_INT(j->number, 3);
                rig_run(SECOND);
                CHECK(job_ended(j) && j->code == RESULT_OK);
                job_unref(j);
                rig_stop();
        }
}

/* Its finished jobs stay readable, what waits or runs there ends, and its environment is lent again once it is clean. */
static void unknown_state_of_a_lease(void) {
        static const int states[] = { -1, LEASE_RELEASED, LEASE_N_STATES, INT_MAX };
        struct lease *l;

        for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
                struct journal_lease row;
                char nonce[UUID_SIZE];

                rig_start();
                l = rig_lease("t");
                rig_lease("other");
                job_unref(rig_job(l, "true"));
                rig_run(SECOND);
                job_unref(rig_job(l, "sleep"));
                rig_run(0);
                rig_prolong(lease_environment(l));
                rig_run(SECOND);
                snprintf(nonce, sizeof(nonce), "%s", sandbox_of(l)->nonce);
                row = (struct journal_lease){
                        .serial = 1, .name = "t", .uid = 1000, .state = states[i], .environment = nonce, .cwd = "", .env = "",
                };
                CHECK_INT(journal_put_lease(rig.journal, &row), 0);
                rig_restart();
                rig_run(SECOND);
                l = leases_find(rig.table, "t");
                CHECK_INT(lease_state(l), LEASE_LOST);
                CHECK(strstr(lease_error(l), "state in the journal is unknown"));
                CHECK(lease_job(l, 1)->code == RESULT_OK);
                CHECK(job_ended(lease_job(l, 2)) && lease_job(l, 2)->code == RESULT_LOST);
                CHECK_INT(lease_state(leases_find(rig.table, "other")), LEASE_LEASED);
                CHECK_INT(rig.backend.totals.cleaned, 1);
                CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
                CHECK_INT(lease_command(l, NULL, "renew"), 0);
                rig_run(SECOND);
                CHECK_INT(lease_state(l), LEASE_LEASED);
                rig_stop();
        }
}

/* The files of a job cannot be read, so it is left out. The next job must not get its number. */
static void number_of_a_job_that_is_left_out(void) {
        struct lease *l;
        struct job *j;

        rig_start();
        l = rig_lease("t");
        job_unref(rig_job(l, "true"));
        rig_run(SECOND);
        CHECK_INT(symlinkat("a file that is long enough for an order of bytes", rig.dir.fd, "1.1.order"), 0);
        rig_restart();
        rig_run(SECOND);
        l = leases_find(rig.table, "t");
        CHECK(!lease_job(l, 1));
        j = rig_job(l, "true");
        CHECK_INT(j->number, 2);
        job_unref(j);
        rig_stop();
}

/* A planned stop that keeps everything touches nothing. */
static void kept_job_goes_on(void) {
        struct sim_sandbox *s;
        struct lease *l;

        rig_start();
        l = rig_lease("t");
        job_unref(rig_job(l, "sleep"));
        rig_run(SIM_DELAY_US);
        rig_prolong(lease_environment(l));
        rig_run(SECOND);
        s = sandbox_of(l);
        sim_backend_end_core(&rig.backend, SIM_CORE_LEAVES);
        core_stop(rig.core, true);
        CHECK(!list_empty(&s->execs) && !s->cleaned.place && s->sandbox.state == SANDBOX_ENDING && !s->sandbox.cleaning);
        sim_backend_let_go(&rig.backend);
        CHECK(core_is_empty(rig.core));
        rig_restart();
        rig_run(10 * SIM_DELAY_US);
        l = leases_find(rig.table, "t");
        CHECK(l && lease_current(l) && lease_current(l)->state == JOB_RUNNING);
        rig_stop();
}

static int copy_environment(void *data, const struct journal_environment *row) {
        static char nonce[UUID_SIZE], id[64], token[64];
        struct journal_environment *out = data;

        *out = *row;
        out->nonce = strcpy(nonce, row->nonce);
        out->id = strcpy(id, row->id);
        out->resume_token = strcpy(token, row->resume_token);
        out->workdir = NULL;
        return 0;
}

/* That it was lent could not be written: the lease that has it is proof enough. */
static void use_that_was_not_written(void) {
        struct journal_environment row;

        rig_start();
        rig.config.max_uses = 1;
        rig_lease("t");
        rig_run(SECOND);
        CHECK_INT(journal_each_environment(rig.journal, copy_environment, &row), 0);
        CHECK_INT(row.uses, 1);
        row.uses = 0;
        CHECK_INT(journal_put_environment(rig.journal, &row), 0);
        rig_restart();
        rig_run(SECOND);
        CHECK_INT(lease_state(leases_find(rig.table, "t")), LEASE_LEASED);
        lease_release(leases_find(rig.table, "t"));
        rig_run(SECOND);
        CHECK_INT(pool_count_all(rig.pool), 0);
        rig_stop();
}

int main(void) {
        RUN(running_job_is_followed);
        RUN(signals_wait_for_the_environment);
        RUN(silent_job_is_lost);
        RUN(name_of_an_earlier_version);
        RUN(job_without_environment_is_lost);
        RUN(kept_row_keeps_its_environment);
        RUN(jobs_of_a_lost_lease_have_ended);
        RUN(job_that_was_not_started_stays_so);
        RUN(job_that_was_not_written_does_not_run);
        RUN(files_of_the_first_job_stay);
        RUN(job_does_not_go_on_in_another_environment);
        RUN(job_without_files_has_ended);
        RUN(number_is_not_used_twice);
        RUN(unknown_state_of_a_job);
        RUN(unknown_state_of_a_lease);
        RUN(number_of_a_job_that_is_left_out);
        RUN(kept_job_goes_on);
        RUN(use_that_was_not_written);
        return check_done();
}
