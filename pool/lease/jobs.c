/* SPDX-License-Identifier: MIT */

/*
 * A lease's jobs: one after another, from submission to end. What the backend has to say of an exec comes here as an
 * event.
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/exec-id.h"
#include "pool/base/limits.h"
#include "pool/environment/command.h"
#include "pool/lease/internal.h"
#include "pool/lease/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"
#include "pool/util/log.h"
#include "pool/util/watch.h"

#define TIMED_OUT 124 /* the exit code of a job that was killed for its time */

static void start_next(struct lease *l);

static void note_job(struct lease *l, struct job *j, const char *state) {
        char name[NAME_LEN_MAX + 16];

        log_debug("lease=%s environment=%s job=%" PRIu32 ": %s", l->name, lease_environment(l) ?: "-", j->number,
                  state);
        snprintf(name, sizeof(name), "%s/%" PRIu32, l->name, j->number);
        l->changed_wall_us = j->changed_wall_us = event_emit(l->table->events, "job", name, state, NULL, j->error);
}

static int write_job(struct lease *l, const struct job *j) {
        struct journal_job row = job_row(j, l->serial);

        return journal_update_job(l->table->journal, &row);
}

/* Old finished jobs leave the lease; who reads one keeps it. */
static void trim_history(struct lease *l) {
        struct job *j, *tmp;

        list_for_each_safe (j, tmp, &l->jobs, link) {
                if (l->n_ended <= l->table->config->history)
                        break;
                if (!job_ended(j))
                        continue;
                /* Else all rows are put again, and until then this one may be all that keeps its number from being used twice. */
                if (!journal_is_behind(l->table->journal))
                        (void)journal_drop_job(l->table->journal, l->serial, j->number);
                list_remove(&j->link);
                l->n_ended--;
                job_unref(j);
        }
}

/* How it will stand in the journal when it has ended. */
static struct journal_job ended_row(const struct lease *l, const struct job *j, const struct result *r, int code) {
        struct journal_job row = job_row(j, l->serial);

        row.state = JOB_ENDED;
        row.code = r->code;
        row.exit_code = code;
        row.ended_us = l->table->clock();
        if (!row.error && *r->text)
                row.error = r->text;
        return row;
}

/* Before anybody is told, with all that `error` says. If it cannot be written, the next run asks again how it ended. */
static void note_end(struct lease *l, const struct job *j, const struct result *r, int code) {
        struct journal_job row = ended_row(l, j, r, code);

        (void)journal_update_job(l->table->journal, &row);
}

const char *job_end_name(enum job_end end) {
        static const char *const names[] = {
                [JOB_END_OK] = "ok",         [JOB_END_FAILED] = "failed",       [JOB_END_TIMEOUT] = "timeout",
                [JOB_END_KILLED] = "killed", [JOB_END_CANCELLED] = "cancelled", [JOB_END_UNKNOWN] = "unknown",
        };

        return names[end];
}

static enum job_end classify(const struct job *j, const struct result *r, int code) {
        if (j->state == JOB_QUEUED)
                return JOB_END_CANCELLED;
        if (!result_ok(r))
                return r->code == RESULT_RELEASED ? JOB_END_KILLED : JOB_END_UNKNOWN;
        if (j->fate == JOB_FATE_TIMEOUT)
                return JOB_END_TIMEOUT;
        if (j->fate != JOB_FATE_OWN)
                return JOB_END_KILLED;
        return code == 0 ? JOB_END_OK : JOB_END_FAILED;
}

static void end_job(struct lease *l, struct job *j, const struct result *r, int code) {
        l->table->totals.ended[classify(j, r, code)]++;
        if (j->state == JOB_QUEUED)
                l->n_queued--;
        if (l->current == j)
                l->current = NULL;
        l->n_ended++;
        l->table->starved_us = 0; /* what it had is free now */
        job_add_remark(j, r->text);
        note_end(l, j, r, code);
        job_end(j, r, code, l->table->clock());
        note_job(l, j, "ended");
        lease_note_use(l);
}

/* Everything that is queued, and with @running also what runs, ends without a result. */
void lease_end_jobs(struct lease *l, bool running, const struct result *why) {
        struct job *j;

        if (running && l->current) {
                if (l->current->exec)
                        exec_cancel(l->current->exec);
                end_job(l, l->current, why, 0);
        }
        list_for_each (j, &l->jobs, link)
                if (j->state == JOB_QUEUED)
                        end_job(l, j, why, 0);
        if (!l->current)
                list_remove(&l->starved);
        trim_history(l);
}

/* TERM first where its time is over, and nobody has asked for a KILL. */
static void send_kill(struct leases *t, struct job *j) {
        int64_t grace_us = j->fate == JOB_FATE_TIMEOUT ? t->config->kill_grace_us : 0;

        deadline_set(&t->deadlines, j, clock_after(t->clock(), clock_after(grace_us, KILL_TIMEOUT_US)));
        exec_kill(j->exec, grace_us);
}

/* Kill its processes; when even that does not end it, leases_tick() gives it up. */
void lease_kill(struct lease *l, struct job *j, enum job_fate fate, const char *why) {
        bool first = j->fate == JOB_FATE_OWN;

        job_remark(j, why);
        if (job_set_fate(j, fate)) {
                lease_touch(l);
                j->changed_wall_us = l->changed_wall_us;
                (void)write_job(l, j);
        }
        if (!j->exec)
                return; /* an earlier run's, whose environment has not answered yet */
        if (first)
                send_kill(l->table, j);
        else
                exec_kill(j->exec, 0); /* it may be in its grace */
}

static void on_started(void *owner) {
        struct job *j = owner;
        struct lease *l = j->lease;

        lease_set_prepared(l);
        if (!j->started_us)
                j->started_us = l->table->clock();
        if (j->fate == JOB_FATE_OWN)
                deadline_set(&l->table->deadlines, j,
                               j->timeout_us > 0 ? clock_after(j->started_us, j->timeout_us) : USEC_NEVER);
        note_job(l, j, "running");
        if (j->state != JOB_RUNNING) /* it is, if an earlier run has seen it start */
                job_set_state(j, JOB_RUNNING);
        (void)write_job(l, j);
}

static void say_why_refused(const struct lease *l, const struct job *j, char *out, size_t size) {
        char quota[QUOTA_TEXT_SIZE];

        if (j->output_error == -EFBIG)
                snprintf(out, size, "killed: its output passed output_max, %" PRIu64 " bytes",
                         l->table->config->output_max);
        else if (j->output_error == -EDQUOT)
                snprintf(out, size, "killed: its output passed %s; rmdir of a lease makes room",
                         lease_say_quota(l, quota));
        else
                snprintf(out, size, "killed: its output could not be stored: %s", strerror(-j->output_error));
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct job *j = owner;
        struct lease *l = j->lease;
        char why[QUOTA_TEXT_SIZE * 2];
        int r;

        if (j->output_error)
                return;
        r = spool_append(j->spool, stream, data, len);
        if (r < 0) {
                j->output_error = r;
                say_why_refused(l, j, why, sizeof(why));
                lease_kill(l, j, r == -EFBIG || r == -EDQUOT ? JOB_FATE_OUTPUT_MAX : JOB_FATE_OUTPUT_LOST, why);
        } else {
                l->table->totals.output_bytes += len;
        }
        watch_fire(&j->watches);
}

/*
 * How it ended, for those who read output and exit code and take the one for the whole of the other: where bytes were
 * dropped the code is not its own, even if it ended by itself before it was killed.
 */
static const struct result *judge_end(const struct lease *l, struct job *j, const struct result *r, int *code,
                                      struct result *cut) {
        char why[QUOTA_TEXT_SIZE * 2];

        if (!result_ok(r))
                return r;
        switch (j->fate) {
        case JOB_FATE_OWN:
        case JOB_FATE_KILLED:
                return r;
        case JOB_FATE_OUTPUT_MAX:
                *code = 128 + SIGKILL;
                return r;
        case JOB_FATE_TIMEOUT:
                *code = TIMED_OUT;
                return r;
        case JOB_FATE_OUTPUT_LOST:
                say_why_refused(l, j, why, sizeof(why));
                result_set(cut, RESULT_FAILED, "%s", why);
                free(TAKE_PTR(j->error)); /* that is what matters of it now */
                return cut;
        }
        return r;
}

static void on_ended(void *owner, const struct result *r, int code) {
        struct job *j = owner;
        struct lease *l = j->lease;
        struct result cut;

        j->exec = NULL;
        r = judge_end(l, j, r, &code, &cut);
        end_job(l, j, r, code);
        trim_history(l);
        start_next(l);
}

static void time_out(struct lease *l, struct job *j) {
        char why[64];

        snprintf(why, sizeof(why), "timed out after %g s", (double)j->timeout_us / USEC_PER_SEC);
        lease_kill(l, j, JOB_FATE_TIMEOUT, why);
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
        lease_kill(l, j, JOB_FATE_KILLED, "background processes killed: they held its output open after its timeout");
}

static const struct exec_events exec_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
        .polled = on_polled,
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
                                           .cwd = j->cwd,
                                           .env = j->env,
                                   });
        if (r < 0)
                return r;
        command.spec.resume = resume;
        command.spec.offsets[STREAM_STDOUT] = spool_size(j->spool, VIEW_STDOUT);
        command.spec.offsets[STREAM_STDERR] = spool_size(j->spool, VIEW_STDERR);
        command.spec.command = &j->command;
        command.spec.input = &j->input;
        command.spec.fresh = !l->prepared;
        r = sandbox_exec(environment_sandbox(l->claim.environment), &command.spec, &exec_events, j, &j->exec);
        command_deinit(&command);
        return r;
}

/* Written down before a job: what is to be cleaned away behind it, and what an earlier one made. */
static int write_use(struct lease *l) {
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
        int r = write_use(l);

        row.state = JOB_STARTING;
        if (r == 0 && !j->written_as_starting)
                r = journal_update_job(l->table->journal, &row);
        j->written_as_starting = r == 0; /* it may be tried again */
        return r < 0 ? r : exec_job(l, j, false);
}

/* It is with the backend. */
static void follow_job(struct lease *l, struct job *j) {
        l->current = j;
        list_remove(&l->starved);
        deadline_add(&l->table->deadlines, j, clock_after(l->table->clock(), START_TIMEOUT_US));
}

/* From the newest, for before those that are queued there may be hundreds that have ended. */
static struct job *first_queued(struct lease *l) {
        struct job *j, *before, *first = NULL;
        unsigned left = l->n_queued;

        list_for_each_reverse_safe (j, before, &l->jobs, link) {
                if (left == 0)
                        break;
                if (j->state == JOB_QUEUED) {
                        first = j;
                        left--;
                }
        }
        return first;
}

/* Its job waits until somebody gives back what it needs. */
static void starve(struct lease *l, const struct job *j, int r) {
        struct leases *t = l->table;
        int64_t now = t->clock();

        result_set(&t->shortage, RESULT_BUSY, "the next job waits until this machine can start it: %s%s", strerror(-r),
                   r == -EMFILE ? "; ulimit -n or LimitNOFILE= of the daemon sets the limit" : "");
        if (now >= t->starved_warn_us) {
                log_warning("lease=%s environment=%s job=%" PRIu32 ": %s", l->name, lease_environment(l), j->number,
                            t->shortage.text);
                t->starved_warn_us = clock_after(now, STARVED_WARN_EVERY_US);
        }
        list_remove(&l->starved);
        list_add_tail(&t->starved, &l->starved);
        if (t->starved_us <= now)
                t->starved_us = clock_after(now, STARVED_AGAIN_US);
}

static void start_next(struct lease *l) {
        struct result why;
        struct job *j;
        int r;

        while (l->state == LEASE_LEASED && !l->current && l->n_queued > 0) {
                j = first_queued(l);
                r = start_job(l, j);
                if (is_shortage(r)) {
                        starve(l, j, r);
                        return;
                }
                if (r < 0) {
                        result_set(&why, RESULT_FAILED, "job not started in environment %s: %s",
                                   lease_environment(l), strerror(-r));
                        end_job(l, j, &why, 0);
                        trim_history(l);
                        continue;
                }
                l->n_queued--;
                follow_job(l, j);
                note_job(l, j, "starting");
                job_set_state(j, JOB_STARTING);
        }
}

static bool began(const struct job *j) {
        return j->state == JOB_STARTING || j->state == JOB_RUNNING || j->started_us;
}

void lease_end_unwritten(struct lease *l) {
        struct job *j, *newest = NULL;
        struct result why;

        list_for_each (j, &l->jobs, link)
                if (began(j))
                        newest = j;
        result_set(&why, RESULT_FAILED, "how it ended was not written down before the daemon was killed");
        list_for_each (j, &l->jobs, link) {
                if (!newest || j == newest)
                        break;
                if (!job_ended(j))
                        end_job(l, j, &why, 0);
        }
        trim_history(l);
}

/*
 * A job that had not said that it runs is handed over again, under the same id, which starts it only once; the
 * provider goes on with it where it did run already.
 */
void lease_resume(struct lease *l) {
        struct job *j = l->current;
        struct result why;
        int r;

        if (!j) {
                start_next(l);
                return;
        }
        r = exec_job(l, j, j->state == JOB_RUNNING);
        if (is_shortage(r)) {
                starve(l, j, r);
                return;
        }
        if (r < 0) {
                /* It runs there all the same, so nothing else may. */
                result_set(&why, RESULT_LOST,
                           "environment %s given up: the job of an earlier run cannot be followed: %s",
                           lease_environment(l), strerror(-r));
                pool_condemn(l->table->pool, &l->claim, &why);
                return;
        }
        follow_job(l, j);
        lease_set_prepared(l); /* it may have begun before */
        note_job(l, j, "resumed");
        if (j->fate != JOB_FATE_OWN)
                send_kill(l->table, j);
}

/* Killed, and not heard of: it ends for its lease, which keeps its environment. */
static void give_up(struct lease *l, struct job *j) {
        struct result r;

        result_set(&r, RESULT_OK, "it did not end within %d s; what is left of it may still run",
                   (int)(KILL_TIMEOUT_US / USEC_PER_SEC));
        exec_cancel(j->exec);
        end_job(l, j, &r, j->fate == JOB_FATE_TIMEOUT ? TIMED_OUT : 128 + SIGKILL);
        trim_history(l);
        start_next(l);
}

/* Its backend owes an answer for too long: it may still start, or still run, beside another job. */
static void condemn(struct lease *l, const struct job *j) {
        bool started = j->exec->started;
        int64_t us = started ? EXEC_POLL_TIMEOUT_US : j->fate != JOB_FATE_OWN ? KILL_TIMEOUT_US : START_TIMEOUT_US;
        struct result lost;

        result_set(&lost, RESULT_LOST, "environment %s given up: job %" PRIu32 " did not %s within %d s",
                   lease_environment(l), j->number, started ? "tell whether it runs" : "start",
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

/* Jobs that could not be started, in the order in which they were tried. */
static void tick_starved(struct leases *t, int64_t now) {
        struct list again = LIST_INIT(again);
        struct lease *l;
        unsigned failed = 0;

        if (list_empty(&t->starved) || t->starved_us > now)
                return;
        list_move_all(&again, &t->starved);
        while (failed < STARVED_TRIES && (l = list_first(&again, struct lease, starved))) {
                list_remove(&l->starved);
                lease_resume(l);
                failed += !list_empty(&l->starved);
        }
        list_move_all(&again, &t->starved); /* behind those that had no turn */
        list_move_all(&t->starved, &again);
}

void leases_tick_jobs(struct leases *t, int64_t now) {
        deadlines_tick(&t->deadlines, now, on_due);
        tick_starved(t, now);
}

enum result_code lease_accepts(const struct lease *l) {
        if (l->code != RESULT_OK)
                return l->code;
        return l->n_queued >= QUEUE_MAX || l->last_number + l->n_drafts >= JOB_NUMBER_MAX ? RESULT_BUSY : RESULT_OK;
}

struct job_store lease_job_store(const struct lease *l) {
        return (struct job_store){ l->table->spool_dir, l->table->config->output_max, l->quota };
}

int lease_draft(struct lease *l, struct job **out) {
        struct job_store store;
        int r;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        store = lease_job_store(l);
        r = job_new(out, &store);
        if (r == 0)
                l->n_drafts++;
        return r;
}

void lease_discard(struct lease *l, struct job *draft) {
        l->n_drafts--;
        job_unref(draft);
}

/* What the job is to run with, as it is set now. */
static int take_settings(struct lease *l, struct job *j) {
        j->timeout_us = l->timeout_us;
        j->cwd = strdup(l->cwd);
        if (asprintf(&j->env, "%s\n%s", l->table->config->env, l->env) < 0)
                j->env = NULL;
        return j->cwd && j->env ? 0 : -ENOMEM;
}

/* Into the books. @why: ok, or why it could not be stored; and then also why it could not be written down. */
static void add_job(struct lease *l, struct job *j, struct result *why) {
        struct journal_job row = result_ok(why) ? job_row(j, l->serial) : ended_row(l, j, why, 0);
        int r = 0;

        /* It starts at once: then one row says both. */
        j->written_as_starting = result_ok(why) && l->state == LEASE_LEASED && !l->current && l->n_queued == 0;
        if (j->written_as_starting) {
                row.state = JOB_STARTING;
                r = write_use(l);
        }
        if (r == 0)
                r = journal_add_job(l->table->journal, &row);
        if (r < 0 && result_ok(why))
                result_set(why, RESULT_FAILED, "not run: it could not be written down: %s", strerror(-r));
}

int lease_submit(struct lease *l, struct job *draft, struct blob *command) {
        struct job *j = draft;
        bool took_input = l->input.size > 0;
        struct result why;
        int r;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        l->n_drafts--;
        j->lease = l;
        j->submitted_us = l->table->clock();
        r = job_submit(j, l->serial, ++l->last_number, command, &l->input);
        if (r == 0)
                r = take_settings(l, j);
        if (r == 0)
                why.code = RESULT_OK; /* no text is read then */
        else
                result_set(&why, RESULT_FAILED, "not run: it could not be stored: %s", strerror(-r));
        add_job(l, j, &why);
        l->n_queued++;
        l->table->totals.submitted++;
        list_add_tail(&l->jobs, &job_ref(j)->link);
        lease_show(l);
        lease_note_use(l);
        lease_replace(&l->remark, NULL);
        note_job(l, j, "queued");
        j->submitted_wall_us = j->changed_wall_us;
        if (took_input)
                l->input_wall_us = j->submitted_wall_us;
        if (!result_ok(&why)) {
                /* Close cannot fail, so the job must: whoever reads next must not get the result of the one before. */
                end_job(l, j, &why, 0);
                trim_history(l);
                return 0;
        }

        /* It was opened before the lease was lost: it is not forgotten, it fails like those before it. */
        if (l->code != RESULT_OK) {
                result_set(&why, l->code, "%s", l->error);
                lease_end_jobs(l, false, &why);
        }
        start_next(l);
        return 0;
}
