/* SPDX-License-Identifier: MIT */

/* A core ends, and the next one takes up what it left. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim-model.h"
#include "pool/environment/pool-body.h"
#include "pool/lease/lease-body.h"
#include "pool/util/clock.h"

static void on_ready(void *owner, const struct result *r) {
        SIM_CHECK(core_restore(model.core) == 0, "the journal is not taken up");
}

static void on_notice(void *owner, const char *line) {
}

void model_open_core(void) {
        static const struct core_events events = { .ready = on_ready, .notice = on_notice };
        const struct core_parts parts = {
                .use = BACKEND_TO_CREATE,
                .config = &model.config,
                .backend = &model.backend.backend,
                .journal = model.journal,
                .spool_dir = model.spool_dir,
                .clock = sim_clock,
                .seed = sim.seed,
        };

        SIM_CHECK(core_new(&model.core, &parts) == 0, "no core");
        model.pool = core_pool(model.core);
        model.table = core_leases(model.core);
        SIM_CHECK(core_start(model.core, &events, NULL) == 0, "no start");
        backend_ready(&model.backend.backend, &(struct result){});
}

/* the end */

/* Its lease has dropped it already, who reads it ends with the core. What is killed removes no files. */
static void forget_job(struct model_job *j, bool planned) {
        if (!planned)
                job_keep(j->job);
        watch_remove(&j->watch);
        timer_cancel(&j->drop);
        list_remove(&j->link);
        if (j->exec)
                j->exec->job = NULL;
        job_unref(j->job);
        free(j);
}

static void forget_gone(bool planned) {
        struct model_lease *m;

        while ((m = list_first(&model.gone, struct model_lease, link))) {
                while (!list_empty(&m->jobs))
                        forget_job(list_first(&m->jobs, struct model_job, link), planned);
                watch_remove(&m->watch);
                timer_cancel(&m->drop);
                list_remove(&m->link);
                lease_unref(m->lease);
                free(m);
        }
}

/* What is to survive, as it was at the end; what is not, goes. */
static void note_lease(struct model_lease *m, bool planned) {
        struct model_job *j, *tmp;

        watch_remove(&m->watch);
        list_for_each_safe (j, tmp, &m->jobs, link) {
                watch_remove(&j->watch);
                model_read_all(j);
                if (j->seen == JOB_QUEUED && j->job->written_as_starting)
                        j->seen = JOB_STARTING; /* it was refused for a shortage, and is handed over again */
                j->left = j->seen == JOB_STARTING || j->seen == JOB_RUNNING;
                if (j->seen == JOB_ENDED) {
                        j->fate_known = true;
                        j->code = j->job->code;
                        j->exit_code = j->job->exit_code;
                }
                snprintf(j->error, sizeof(j->error), "%s", j->job->error ?: "");
                if (!lease_job(m->lease, j->number))
                        forget_job(j, planned);
        }
        m->code = lease_code(m->lease);
}

static void drop_references(struct model_lease *m) {
        struct model_job *j;

        list_for_each (j, &m->jobs, link) {
                job_unref(j->job);
                j->job = NULL;
        }
        lease_unref(m->lease);
        m->lease = NULL;
}

static void add_totals(void) {
        const struct pool_totals *t = pool_totals(model.pool);
        struct pool_totals *sum = &model.earlier;

        sum->created += t->created;
        sum->create_failures += t->create_failures;
        sum->destroyed += t->destroyed;
        sum->destroy_failures += t->destroy_failures;
        sum->died += t->died;
        sum->granted += t->granted;
        sum->oversubscribed += t->oversubscribed;
        sum->cleaned += t->cleaned;
        sum->changed += t->changed;
        sum->clean_failures += t->clean_failures;
        sum->adopted += t->adopted;
        sum->orphans += t->orphans;
}

static void end_core(bool planned) {
        struct sim_backend *b = &model.backend;
        uint64_t rows = rows_digest();

        if (!planned)
                add_totals();
        sim_backend_end_core(b, planned ? SIM_CORE_LEAVES : SIM_CORE_CRASHES);
        if (!planned)
                model.pool->environments.journal = model.table->journal = NULL;
        core_stop(model.core, true);
        sim_backend_let_go(b);
        if (planned)
                add_totals();
        else
                SIM_CHECK(rows == rows_digest(), "a core that was killed writes");
        SIM_CHECK(core_is_empty(model.core) && pool_is_empty(model.pool) && leases_count(model.table) == 0, "the core did not let go of everything");
        core_free(model.core);
}

/* the beginning */

static struct environment *environment_of(const struct sim_sandbox *s) {
        struct environment *e = environments_find(model.pool->fleet, s->nonce);

        SIM_CHECK(e, "%s is not in the pool", s->sandbox.id);
        return e;
}

static void start_core(bool lenient) {
        struct sim_sandbox *s;

        sim_trace("the daemon starts");
        model.draining = false;
        model.prewarm = 0;
        model.paced_us = 0;
        model.n_probing = 0;
        model_forget_failures();
        model.backend.lenient = lenient;
        model.backend.was_lenient = model.backend.was_lenient || lenient;
        line_reset();
        model_open_core();
        model.backend.lenient = false;
        list_for_each (s, &model.backend.sandboxes, link)
                s->in_use_before = environment_of(s)->workdir != NULL;
}

static void take_job(struct model_lease *m, struct model_job *j) {
        struct job *job = lease_job(m->lease, j->number);

        SIM_CHECK(job, "job %" PRIu64 ".%" PRIu32 " is forgotten", m->serial, j->number);
        j->job = job_ref(job);
        watch_add(&job->watches, &j->watch);
        SIM_CHECK(job->state == j->seen || (m->seen == LEASE_LOST && job_ended(job)),
                  "job %" PRIu64 ".%" PRIu32 " was %s, is %s", m->serial, j->number, job_state_name(j->seen),
                  job_state_name(job->state));
        SIM_CHECK(j->seen != JOB_ENDED || (job->code == j->code && job->exit_code == j->exit_code),
                  "job %" PRIu64 ".%" PRIu32 " ended with %s %d, shows %s %d", m->serial, j->number,
                  result_code_name(j->code), j->exit_code, result_code_name(job->code), job->exit_code);
        SIM_CHECK(!strcmp(job->error ?: "", j->error), "job %" PRIu64 ".%" PRIu32 " says \"%s\", said \"%s\"",
                  m->serial, j->number, job->error ?: "", j->error);
        model_read_all(j);
}

static void check_settings(const struct model_lease *m) {
        const struct lease *l = m->lease;

        SIM_CHECK(!strcmp(l->settings.cwd, m->cwd) && !strcmp(l->settings.env, m->env) && l->settings.timeout_us == m->timeout_us,
                  "lease %s has cwd \"%s\", env \"%s\", timeout %g", m->name, l->settings.cwd, l->settings.env,
                  (double)l->settings.timeout_us / USEC_PER_SEC);
        SIM_CHECK(lease_uid(l) == model_user(m->name) && lease_gid(l) == 1000, "lease %s is somebody else's", m->name);
}

static void take_lease(struct model_lease *m) {
        struct model_job *j;
        struct lease *l = leases_find(model.table, m->name);

        SIM_CHECK(l && lease_serial(l) == m->serial, "lease %s is forgotten", m->name);
        m->lease = lease_ref(l);
        watch_add(lease_watches(l), &m->watch);
        m->input[0] = '\0';
        check_settings(m);
        if (m->seen == LEASE_LEASED) {
                m->seen = LEASE_WAITING;
                m->restoring = true;
        } else if (m->seen == LEASE_WAITING && !m->restoring) {
                line_join(m);
        }
        SIM_CHECK(lease_state(l) == m->seen && lease_code(l) == m->code, "lease %s was %s: %s, is %s: %s", m->name,
                  lease_state_name(m->seen), result_code_name(m->code), lease_state_name(lease_state(l)),
                  result_code_name(lease_code(l)));
        list_for_each (j, &m->jobs, link)
                take_job(m, j);
}

/* The journal was behind: see what there is now */

static void copy(char *to, size_t size, const char *from) {
        snprintf(to, size, "%s", from ?: "");
}

static struct sim_exec *find_run(const struct sim_sandbox *s, const struct model_lease *m, const struct model_job *j) {
        return sim_exec_find(s, m->lease->instance, m->serial, j->number);
}

/* Its output is in files, not in the journal: all that the core before kept is there. */
static void check_kept(const struct model_job *j, const struct sim_exec *x) {
        for (int i = 0; i < 2; i++)
                SIM_CHECK(j->wrote[i] == x->wrote[i], "job %" PRIu64 ".%" PRIu32 " has %" PRIu64 " bytes, had %" PRIu64,
                          x->serial, x->number, j->wrote[i], x->wrote[i]);
}

static void see_job(struct model_lease *m, struct job *job) {
        struct sim_sandbox *s;
        struct sim_exec *x;
        struct model_job *j = calloc(1, sizeof(*j));

        if (!j)
                abort();
        j->lease = m;
        j->job = job_ref(job);
        j->number = job->number;
        j->seen = job->state;
        j->timeout_us = job->settings.timeout_us;
        snprintf(j->command, sizeof(j->command), "job %" PRIu64 ".%" PRIu32, m->serial, j->number);
        j->padding = job->command.size - strlen(j->command);
        copy(j->cwd, sizeof(j->cwd), job->settings.cwd);
        copy(j->env, sizeof(j->env), job->settings.env);
        blob_read(&job->settings.input, 0, j->input, sizeof(j->input) - 1);
        j->left = j->seen == JOB_STARTING || j->seen == JOB_RUNNING;
        j->kill_wanted = job->fate != JOB_FATE_OWN && job->fate != JOB_FATE_TIMEOUT;
        j->killed_us = job->fate == JOB_FATE_TIMEOUT;
        j->overflowed = job->output_error && spool_size(job->spool, VIEW_OUTPUT) > 0; /* of a released lease: no file */
        j->cut = j->overflowed && job->output_error == -EDQUOT;
        for (int i = 0; i < 2; i++)
                j->wrote[i] = spool_size(job->spool, i);
        list_for_each (s, &model.backend.sandboxes, link)
                if (j->left && s->number == m->sandbox && (x = find_run(s, m, j))) {
                        x->started_us = job->started_us;
                        x->job = j;
                        j->exec = x->in_past ? NULL : x;
                        if (j->exec)
                                check_kept(j, x);
                }
        watch_init(&j->watch, model_on_job_changed);
        watch_add(&job->watches, &j->watch);
        list_add_tail(&m->jobs, &j->link);
        if (j->seen == JOB_ENDED)
                model_read_on(j);
}

static void see_lease(struct lease *l) {
        const char *environment = lease_environment(l);
        struct model_lease *m = calloc(1, sizeof(*m));

        if (!m)
                abort();
        m->lease = lease_ref(l);
        copy(m->name, sizeof(m->name), lease_name(l));
        m->serial = lease_serial(l);
        m->uid = lease_uid(l);
        m->seen = lease_state(l);
        m->sandbox = environment ? sim_backend_find(&model.backend, environment)->number : 0;
        m->restoring = environment != NULL;
        m->rough = true;
        if (m->seen == LEASE_WAITING && !m->restoring) {
                line_join(m);
                m->turn = l->claim.turn; /* one of its name, released before, may have had a turn */
        }
        m->last_number = l->last_number;
        copy(m->workdir, sizeof(m->workdir), l->workdir); /* of the lease before, where its clean-up was not written down */
        copy(m->cwd, sizeof(m->cwd), l->settings.cwd);
        copy(m->env, sizeof(m->env), l->settings.env);
        m->timeout_us = l->settings.timeout_us;
        list_init(&m->jobs);
        list_add_tail(&model.leases, &m->link);
        watch_init(&m->watch, model_on_lease_changed);
        watch_add(lease_watches(l), &m->watch);
        model.n_leases++;
        for (struct job *j = lease_job_after(l, 0); j; j = lease_job_after(l, j->number))
                see_job(m, j);
}

static void see_environments(void) {
        struct sim_sandbox *s;
        const struct environment *e;

        list_for_each (s, &model.backend.sandboxes, link) {
                e = environment_of(s);
                s->doomed = e->state == ENVIRONMENT_ENDING;
                s->n_lent = e->uses;
                s->lent = e->uses > 0;
                s->user = e->user == ENVIRONMENT_NO_USER ? 0 : e->user;
        }
}

/* Readers, too. */
static void forget_everything(void) {
        struct model_lease *m, *tmp;

        list_for_each_safe (m, tmp, &model.leases, link) {
                list_remove(&m->link);
                list_add_tail(&model.gone, &m->link);
        }
        forget_gone(false);
        model.n_leases = 0;
}

/*
 * What the next core can know of the output of a job that runs: the bytes in its files. That the rest was refused, past
 * output_max or the quota, may not be written down.
 */
static void note_kept(struct model_job *j) {
        if (!j->exec)
                return;
        model_read_all(j);
        for (int i = 0; i < 2; i++)
                j->exec->wrote[i] = spool_size(j->job->spool, i);
}

static void kill_while_behind(void) {
        struct model_lease *m;
        struct model_job *j;

        sim_trace("the daemon is killed, and not all is written down");
        list_for_each (m, &model.leases, link) {
                watch_remove(&m->watch);
                list_for_each (j, &m->jobs, link) {
                        watch_remove(&j->watch);
                        note_kept(j);
                }
        }
        list_for_each (m, &model.gone, link)
                watch_remove(&m->watch);
        forget_everything();
        end_core(false);
        start_core(true);
        see_environments();
        for (struct lease *l = leases_after(model.table, 0); l; l = leases_after(model.table, lease_serial(l)))
                see_lease(l);
        model.n_rough++;
}

void model_restart(bool planned) {
        struct model_lease *m;

        if (model.stopping || (model.behind && planned))
                return;
        if (model.behind) {
                kill_while_behind();
                return;
        }
        check_rows();
        sim_trace("the daemon %s", planned ? "stops, and keeps everything" : "is killed");
        forget_gone(planned);
        list_for_each (m, &model.leases, link)
                note_lease(m, planned);
        end_core(planned);
        list_for_each (m, &model.leases, link)
                drop_references(m);
        model.n_crashes += !planned;
        model.n_stops += planned;
        start_core(false);
        list_for_each (m, &model.leases, link)
                take_lease(m);
        if (!model.behind)
                check_rows();
}
