/* SPDX-License-Identifier: MIT */
#include "pool/lease/run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/exec-id.h"
#include "pool/environment/command.h"
#include "pool/lease/end.h"
#include "pool/lease/fate.h"
#include "pool/lease/input.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/lease/shortage.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"

static void on_started(void *owner) {
        struct job *j = owner;
        struct lease *l = j->lease;

        lease_set_prepared(l);
        if (!j->started_us)
                j->started_us = l->table->clock();
        if (j->fate == JOB_FATE_OWN)
                deadline_set(&l->table->deadlines, j,
                               j->settings.timeout_us > 0 ? clock_after(j->started_us, j->settings.timeout_us) : USEC_NEVER);
        lease_announce_job(l, j, "running");
        if (j->state != JOB_RUNNING) /* it is, if an earlier run has seen it start */
                job_set_state(j, JOB_RUNNING);
        (void)lease_write_job(l, j);
        lease_start_next(l); /* others may have waited until the workdir was there */
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct job *j = owner;

        lease_take_output(j->lease, j, stream, data, len);
}

static void on_ended(void *owner, const struct result *r, int code) {
        struct job *j = owner;
        struct lease *l = j->lease;
        struct result cut;

        j->exec = NULL;
        if (j->resumed)
                lease_set_prepared(l); /* it may have begun in the earlier run */
        r = lease_judge_end(l, j, r, &code, &cut);
        lease_end_job(l, j, r, code);
        lease_start_next(l);
}

static void time_out(struct lease *l, struct job *j) {
        char why[64];

        snprintf(why, sizeof(why), "timed out after %g s", (double)j->settings.timeout_us / USEC_PER_SEC);
        lease_kill_job(l, j, JOB_FATE_TIMEOUT, why);
}

/*
 * Its time is up by our clock. But it may have ended in time, and the news is still on its way, for the daemon may have
 * been stopped, or killed and started again: so the backend is asked before that is judged.
 */
static void poll_job(struct leases *t, struct job *j) {
        bool asked = exec_poll(j->exec) == 0;

        j->poll = asked ? JOB_POLL_ASKED : JOB_POLL_NONE;
        deadline_set(&t->deadlines, j, clock_after(t->clock(), asked ? EXEC_POLL_TIMEOUT_US : EXEC_POLL_AGAIN_US));
}

static void on_polled(void *owner, bool running) {
        struct job *j = owner;
        struct lease *l = j->lease;

        if (j->fate != JOB_FATE_OWN)
                return; /* it is killed for another reason, meanwhile */
        if (running) {
                time_out(l, j);
                return;
        }
        j->poll = JOB_POLL_IN_TIME;
        deadline_set(&l->table->deadlines, j, clock_after(l->table->clock(), OUTPUT_TIMEOUT_US));
}

/* Background processes hold the output of a job open whose time is up. The exit code is its own. */
static void end_outlived(struct lease *l, struct job *j) {
        lease_kill_job(l, j, JOB_FATE_KILLED, "background processes killed: they held its output open after its timeout");
}

static const struct exec_events exec_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
        .polled = on_polled,
        .read_input = job_read_input,
        .input_taken = job_input_taken,
};

static int exec_job(struct lease *l, struct job *j, bool resume) {
        struct command command;
        char id[UUID_SIZE];
        int r;

        exec_id_make(id, l->instance, l->serial, j->number);
        r = command_init(&command, &(struct command_settings){
                                           .id = id,
                                           .shell = l->table->config->shell,
                                           .workdir = l->workdir,
                                           .cwd = j->settings.cwd,
                                           .pool_env = l->table->config->env,
                                           .env = j->settings.env,
                                   });
        if (r < 0)
                return r;
        command.spec.resume = resume;
        command.spec.offsets[STREAM_STDOUT] = spool_size(j->spool, VIEW_STDOUT);
        command.spec.offsets[STREAM_STDERR] = spool_size(j->spool, VIEW_STDERR);
        command.spec.output_refused = j->output_error != 0;
        command.spec.command = &j->command;
        command.spec.user = j->settings.user;
        command.spec.rows = j->settings.rows;
        command.spec.columns = j->settings.columns;
        command.spec.kept_input = j->live_input;
        command.spec.input = j->live_input ? NULL : &j->settings.input;
        command.spec.fresh = !l->prepared && lease_empties_workdir(l);
        r = sandbox_exec(environment_sandbox(l->claim.environment), &command.spec, &exec_events, j, &j->exec);
        command_deinit(&command);
        if (r == 0)
                job_offer_input(j);
        return r;
}

int lease_write_use(struct lease *l) {
        int r = pool_use(l->table->pool, &l->claim, l->workdir);

        if (r == 0 && l->prepared_unwritten) {
                r = lease_write(l);
                l->prepared_unwritten = r < 0;
        }
        return r;
}

/* And that it may have begun. */
static int start_job(struct lease *l, struct job *j) {
        struct journal_job row = job_row(j, l->serial);
        int r = lease_write_use(l);

        row.state = JOB_STARTING;
        if (r == 0 && !j->written_as_starting)
                r = journal_update_job(l->table->journal, &row);
        j->written_as_starting = r == 0; /* it may be tried again */
        return r < 0 ? r : exec_job(l, j, false);
}

/* It is with the backend. */
static void follow_job(struct lease *l, struct job *j) {
        deadline_add(&l->table->deadlines, j, clock_after(l->table->clock(), START_TIMEOUT_US));
}

static struct job *next_job(struct lease *l) {
        struct job *j;

        list_for_each (j, &l->queue, turn)
                if (lease_has_turn(l, j))
                        return j;
        return NULL;
}

static bool has_user(const struct job *j) {
        return j->settings.user && *j->settings.user;
}

/* It was made before its lease had an environment, and this one cannot run it. */
static bool asks_too_much(const struct lease *l, const struct job *j, struct result *why) {
        if (j->name && !lease_runs_side_by_side(l))
                result_set(why, RESULT_CANCELLED, "not run: " RUNS_ONE_JOB, lease_environment(l));
        else if (!lease_has_helper(l) && (j->live_input || j->settings.rows || has_user(j)))
                result_set(why, RESULT_CANCELLED, "not run: " NEEDS_HELPER,
                           j->settings.rows ? "a terminal"
                           : j->live_input  ? "live input"
                                            : "another user",
                           lease_environment(l));
        else if (lease_one_user(l) && has_user(j))
                result_set(why, RESULT_CANCELLED, "not run: user %s: environment %s has one user: %s", j->settings.user,
                           lease_environment(l), lease_one_user(l));
        else
                return false;
        return true;
}

/* 0, or a shortage: then it is tried again. */
static int begin_job(struct lease *l, struct job *j) {
        struct result why;
        int r;

        if (asks_too_much(l, j, &why)) {
                lease_end_job(l, j, &why, 0);
                return 0;
        }
        r = start_job(l, j);
        if (is_shortage(r)) {
                lease_starve(l, j, r);
                return r;
        }
        if (r < 0) {
                result_set(&why, RESULT_CANCELLED, "job not started in environment %s: %s", lease_environment(l),
                           strerror(-r));
                lease_end_job(l, j, &why, 0);
                return 0;
        }
        list_remove(&j->turn);
        l->n_queued--;
        lease_add_running(l, j);
        follow_job(l, j);
        lease_announce_job(l, j, "starting");
        job_set_state(j, JOB_STARTING);
        return 0;
}

/* One that is starved is tried again as a whole: jobs of an earlier run may wait, too, and they come first. */
void lease_start_next(struct lease *l) {
        struct job *j;

        if (!list_empty(&l->starved))
                return;
        while (l->n_queued > 0 && (j = next_job(l)))
                if (begin_job(l, j) < 0)
                        return;
}

void lease_signal_job(struct job *j, int signo) {
        if (j->exec)
                exec_signal(j->exec, signo);
        else
                j->signals |= UINT64_C(1) << (signo - 1); /* the environment has not answered since the restart */
}

int lease_resize_job(struct lease *l, struct job *j, uint16_t rows, uint16_t columns) {
        struct settings *s = &j->settings, before = *s;
        int r;

        s->rows = rows;
        s->columns = columns;
        r = lease_add_job_row(l, j);
        if (r < 0) {
                s->rows = before.rows;
                s->columns = before.columns;
        } else if (j->exec) {
                exec_resize(j->exec, rows, columns);
        }
        return r;
}

/*
 * A job that had not said that it runs is handed over again, under the same id, which starts it only once; the
 * provider goes on with it where it did run already.
 */
static int resume_job(struct lease *l, struct job *j) {
        struct result why;
        int r = exec_job(l, j, j->state == JOB_RUNNING);

        if (is_shortage(r)) {
                lease_starve(l, j, r);
                return r;
        }
        if (r < 0) {
                /* It runs there all the same, so nothing else may. */
                result_set(&why, RESULT_LOST,
                           "environment %s given up: the job of an earlier run cannot be followed: %s",
                           lease_environment(l), strerror(-r));
                pool_condemn(l->table->pool, &l->claim, &why);
                return r;
        }
        j->resumed = true;
        follow_job(l, j);
        lease_announce_job(l, j, "resumed");
        for (int signo = 1; j->signals && signo < NSIG; signo++)
                if (j->signals >> (signo - 1) & 1)
                        exec_signal(j->exec, signo);
        j->signals = 0;
        if (j->settings.rows)
                exec_resize(j->exec, j->settings.rows, j->settings.columns); /* it may have changed meanwhile */
        if (j->fate != JOB_FATE_OWN)
                lease_send_kill(l, j);
        return 0;
}

void lease_resume(struct lease *l) {
        struct job *j, *tmp;

        list_for_each_safe (j, tmp, &l->running, turn)
                if (!j->exec && resume_job(l, j) < 0)
                        return;
        lease_start_next(l);
}

/* Killed, and not heard of: it ends for its lease, which keeps its environment. */
static void give_up(struct lease *l, struct job *j) {
        struct result r;

        result_set(&r, RESULT_OK, "it did not end within %d s; what is left of it may still run",
                   (int)(KILL_TIMEOUT_US / USEC_PER_SEC));
        exec_cancel(j->exec);
        lease_end_job(l, j, &r, job_killed_code(j));
        lease_start_next(l);
}

/* Its backend owes an answer for too long: it may still start, or still run, beside another job. */
static void condemn(struct lease *l, const struct job *j) {
        bool started = j->exec->started;
        int64_t us = started ? EXEC_POLL_TIMEOUT_US : j->fate != JOB_FATE_OWN ? KILL_TIMEOUT_US : START_TIMEOUT_US;
        char number[JOB_NAME_SIZE];
        struct result lost;

        result_set(&lost, RESULT_LOST, "environment %s given up: job %s did not %s within %d s", lease_environment(l),
                   job_name(j, number), started ? "tell whether it runs" : "start",
                   (int)(us / USEC_PER_SEC));
        pool_condemn(l->table->pool, &l->claim, &lost);
}

/* It starts, runs or dies for too long. */
static void on_due(struct job *j) {
        struct lease *l = j->lease;

        if (j->exec->started && j->fate != JOB_FATE_OWN)
                give_up(l, j);
        else if (j->exec->started && j->poll == JOB_POLL_NONE)
                poll_job(l->table, j);
        else if (j->poll == JOB_POLL_IN_TIME)
                end_outlived(l, j);
        else
                condemn(l, j);
}

void leases_tick_jobs(struct leases *t, int64_t now) {
        deadlines_tick(&t->deadlines, now, on_due);
        if (!list_empty(&t->starved) && t->starved_us <= now)
                leases_try_starved(t, lease_resume);
}
