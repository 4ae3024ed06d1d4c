/* SPDX-License-Identifier: MIT */
#include "sim-model.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/environment/limits.h"
#include "pool/lease/limits.h"
#include "pool/util/clock.h"

struct model model;

static struct model_job *find_job(uint64_t serial, uint32_t number) {
        struct model_lease *m;
        struct model_job *j;

        list_for_each (m, &model.leases, link)
                if (m->serial == serial)
                        list_for_each (j, &m->jobs, link)
                                if (j->number == number)
                                        return j;
        sim_fail("no job %" PRIu64 ".%" PRIu32 " was ever submitted", serial, number);
}

/* jobs */

void model_job_must_end(struct model_job *j, enum result_code code, int exit_code) {
        if (j->fate_known || j->seen == JOB_ENDED)
                return;
        j->fate_known = true;
        j->code = code;
        j->exit_code = exit_code;
}

void model_jobs_must_end(struct model_lease *m, enum result_code code, bool queued_only) {
        struct model_job *j;

        list_for_each (j, &m->jobs, link)
                if (!queued_only || j->seen == JOB_QUEUED)
                        model_job_must_end(j, code, 0);
}

bool model_may_have(const struct model_lease *m, const struct sim_sandbox *s) {
        return !s->user || s->user == m->uid;
}

static bool is_leased(const struct sim_sandbox *s) {
        const struct model_lease *m;

        list_for_each (m, &model.leases, link)
                if (m->sandbox == s->number)
                        return true;
        return false;
}

bool model_is_idle(const struct sim_sandbox *s) {
        return s->sandbox.state == SANDBOX_LIVE && !s->sandbox.cleaning && !is_leased(s);
}

bool model_one_may_come_free(const struct model_lease *m) {
        const struct config *c = &model.config;
        bool lent_again = c->mode == MODE_POOL && c->reset != RESET_ENVIRONMENT && c->max_uses != 1;
        const struct sim_sandbox *s;

        if (pool_count(model.pool, ENVIRONMENT_CREATING) > 0)
                return true;
        list_for_each (s, &model.backend.sandboxes, link)
                if (model_may_have(m, s) &&
                    (model_is_idle(s) || (lent_again && !sandbox_is_single_use(&s->sandbox) &&
                                          (s->sandbox.state == SANDBOX_LIVE ||
                                           (s->sandbox.state == SANDBOX_CREATING && s->adopting)))))
                        return true;
        return false;
}

int64_t model_creates_by(void) {
        int64_t by = model.failed_us + model.backoff_us;

        if (by < model.paced_us)
                by = model.paced_us;
        return model.broken && model.trial_us > by ? model.trial_us : by;
}

/* Whether a lease that waits may fail now, this way. */
static bool may_fail(const struct model_lease *m, enum result_code code) {
        if (model.broken && sim.now_us < model.trial_us && !model_one_may_come_free(m) && !line_holds_back(m))
                return true;
        return code == RESULT_TIMEOUT && !model.config.oversubscribe &&
               clock_after(m->since_us, model.config.wait_us) <= sim.now_us;
}

/* It was killed, and long enough ago. */
static bool is_given_up(const struct model_job *j) {
        int64_t grace_us = j->kill_wanted ? 0 : model.config.kill_grace_us;

        return j->killed_us && clock_after(j->killed_us, grace_us + KILL_TIMEOUT_US) <= sim.now_us;
}

/* An end that no user and no provider brought about: the core has to have had a reason. */
static void check_unasked_end(struct model_job *j) {
        struct model_lease *m = j->lease;
        enum result_code code = j->job->code;

        if (code == RESULT_OK && is_given_up(j) && j->exec_started) {
                SIM_CHECK(j->job->exit_code == (j->kill_wanted ? 137 : 124), "job %" PRIu64 ".%" PRIu32 " has exit code %d",
                          m->serial, j->number, j->job->exit_code);
                return;
        }
        if (code == RESULT_LOST && is_given_up(j) && !j->exec_started) {
                m->condemned = true;
                return;
        }
        if (code == RESULT_LOST && !j->killed_us && j->given_us && !(j->exec && j->exec->exec.started) &&
            j->given_us + START_TIMEOUT_US <= sim.now_us) {
                m->condemned = true;
                return;
        }
        if (code == RESULT_LOST && !j->killed_us && j->polled_us && j->polled_us + EXEC_POLL_TIMEOUT_US <= sim.now_us) {
                m->condemned = true;
                return;
        }
        if (code == RESULT_LOST && m->condemned)
                return;
        if (code == RESULT_CANCELLED && !j->given_us && model.write_failed_us == sim.now_us)
                return; /* it could not be written down */
        SIM_CHECK(code == RESULT_CANCELLED && m->seen == LEASE_WAITING && may_fail(m, RESULT_TIMEOUT), "job %" PRIu64 ".%" PRIu32 " ended for nothing: %s",
                  m->serial, j->number, result_code_name(code));
}

void model_drop_job(struct model_job *j) {
        model_read(j);
        watch_remove(&j->watch);
        timer_cancel(&j->drop);
        list_remove(&j->link);
        job_unref(j->job);
        free(j);
}

static void on_drop_job(struct timer *t) {
        model_drop_job(container_of(t, struct model_job, drop));
}

void model_read_on(struct model_job *j) {
        timer_arm(&j->drop, prng_scaled(&sim.prng, READ_TIME_US), on_drop_job);
}

static void job_ended_now(struct model_job *j) {
        const struct job *job = j->job;

        if (j->fate_known) {
                SIM_CHECK(job->code == j->code, "job %" PRIu64 ".%" PRIu32 " ended with %s, expected %s",
                          j->lease->serial, j->number, result_code_name(job->code), result_code_name(j->code));
                SIM_CHECK(job->code != RESULT_OK || job->exit_code == j->exit_code,
                          "job %" PRIu64 ".%" PRIu32 " has exit code %d, expected %d", j->lease->serial, j->number,
                          job->exit_code, j->exit_code);
        } else {
                check_unasked_end(j);
        }
        SIM_CHECK(!j->kill_wanted || job->error, "job %" PRIu64 ".%" PRIu32 " was killed and does not say so",
                  j->lease->serial, j->number);
        model.n_jobs_ended++;
        model_read_on(j);
}

void model_look_at_job(struct model_job *j) {
        enum job_state state = j->job->state;

        if (state == j->seen)
                return;
        SIM_CHECK(j->seen < state && (state == JOB_ENDED || state == j->seen + 1),
                  "job %" PRIu64 ".%" PRIu32 " went from %s to %s", j->lease->serial, j->number,
                  job_state_name(j->seen), job_state_name(state));
        j->seen = state;
        if (state == JOB_ENDED)
                job_ended_now(j);
}

void model_on_job_changed(struct watch *w) {
        model_look_at_job(container_of(w, struct model_job, watch));
}

static uint64_t check_bytes(const struct model_job *j, int stream, uint64_t from) {
        uint64_t size = spool_size(j->job->spool, stream);
        static char data[4096];
        ssize_t n;

        spool_open(j->job->spool);
        n = spool_read(j->job->spool, stream, from, data, sizeof(data));
        spool_close(j->job->spool);
        SIM_CHECK(n == (ssize_t)(size - from < sizeof(data) ? size - from : sizeof(data)),
                  "job %" PRIu64 ".%" PRIu32 ": read of %" PRIu64 " gave %zd", j->lease->serial, j->number, from, n);
        for (ssize_t i = 0; i < n; i++)
                SIM_CHECK(data[i] == sim_output_byte(j->lease->serial, j->number, stream, from + i),
                          "job %" PRIu64 ".%" PRIu32 ": byte %" PRIu64 " is wrong", j->lease->serial, j->number,
                          from + i);
        return from + n;
}

/* Neither more nor less than what was given; read from any place, or all of it. */
static void read_job(struct model_job *j, bool all) {
        const uint64_t *wrote = j->exec ? j->exec->wrote : j->wrote;
        bool overflowed = quota_cut(j) || wrote[0] + wrote[1] > model.config.output_max || j->overflowed;
        uint64_t size;

        j->overflowed = overflowed;
        for (int stream = 0; stream < 2; stream++) {
                size = spool_size(j->job->spool, stream);
                SIM_CHECK(size == wrote[stream] || (overflowed && size <= wrote[stream]),
                          "job %" PRIu64 ".%" PRIu32 " shows %" PRIu64 " bytes, %" PRIu64 " were written",
                          j->lease->serial, j->number, size, wrote[stream]);
                if (all)
                        for (uint64_t at = 0; at < size;)
                                at = check_bytes(j, stream, at);
                else if (size > 0)
                        check_bytes(j, stream, sim_below(size));
        }
        SIM_CHECK(!overflowed || j->cut || j->lease->rough || spool_size(j->job->spool, VIEW_OUTPUT) == model.config.output_max,
                  "job %" PRIu64 ".%" PRIu32 " was cut at the wrong place", j->lease->serial, j->number);
}

void model_read(struct model_job *j) {
        read_job(j, false);
}

void model_read_all(struct model_job *j) {
        read_job(j, true);
}

/* what the provider does */

static void back_off(int64_t sent_us) {
        model.no_room = false;
        if (sent_us <= model.failed_us)
                return; /* of the same time as one that failed already */
        model.failed_us = sim.now_us;
        model.backoff_us = model.backoff_us ? model.backoff_us * 2 : BACKOFF_MIN_US;
        if (model.backoff_us > BACKOFF_MAX_US)
                model.backoff_us = BACKOFF_MAX_US;
}

/* One was sent. A tenth of a second that was not used may be. */
static void pace(void) {
        int64_t rate = (int64_t)model.config.create_rate, from = sim.now_us - USEC_PER_SEC / 10;

        if (rate > 0)
                model.paced_us = (model.paced_us > from ? model.paced_us : from) + USEC_PER_SEC / rate;
}

static void on_creating(bool refused) {
        struct pool *p = model.pool;
        unsigned creating = pool_count(p, ENVIRONMENT_CREATING), waiting = line_count(sim.now_us);
        unsigned overdue = line_count(sim.now_us - model.config.wait_us);
        unsigned warm = pool_count(p, ENVIRONMENT_IDLE) + pool_count(p, ENVIRONMENT_CLEANING);
        bool over = model.config.mode == MODE_POOL && pool_count_all(p) >= model.config.max;

        SIM_CHECK(!model.stopping, "an environment is created after the stop");
        SIM_CHECK(!over || (model.config.oversubscribe && creating < overdue),
                  "an environment is created over max: %u of %" PRIu64 ", %u creating, %u overdue", pool_count_all(p),
                  model.config.max, creating, overdue);
        SIM_CHECK(creating < waiting || warm + creating - waiting <
                                                (model.config.min > model.prewarm ? model.config.min : model.prewarm),
                  "an environment is created for nobody: %u creating, %u waiting, %u warm", creating, waiting, warm);
        SIM_CHECK(model.failed_us + model.backoff_us / 2 <= sim.now_us,
                  "an environment is created too soon after a failure");
        SIM_CHECK(model.paced_us <= sim.now_us, "more than %" PRIu64 " creates a second", model.config.create_rate);
        SIM_CHECK(creating < model.config.creates, "more than %" PRIu64 " creates at once", model.config.creates);
        SIM_CHECK(!model.broken || (creating == 0 && model.trial_us <= sim.now_us),
                  "an environment is created while creates are stopped, %u on their way", creating);
        if (refused)
                back_off(sim.now_us);
        else
                pace();
        if (!refused)
                model.n_oversubscribed += over;
}

/* Everything begins anew. */
void model_forget_failures(void) {
        model.failed_us = model.backoff_us = 0;
        model.n_refused = 0;
        model.broken = model.no_room = false;
}

static void on_created(const struct sim_sandbox *s, const struct result *r) {
        if (result_ok(r)) {
                if (!model.no_room || s->sent_us > model.failed_us)
                        model_forget_failures();
                return;
        }
        back_off(s->sent_us);
        model.no_room = r->code == RESULT_BUSY;
        if (model.no_room) { /* so what is asked for is accepted */
                model.n_refused = 0;
                model.broken = false;
                return;
        }
        model.n_refused += r->code == RESULT_INVALID || r->code == RESULT_DENIED;
        if (!model.broken && model.n_refused < BREAKER_ERRORS)
                return;
        model.n_breaks += !model.broken;
        model.broken = true;
        model.trial_us = sim.now_us + BREAKER_PAUSE_US;
}

void model_on_failed_write(bool create, bool submit) {
        sim_trace("the disk is full%s", create ? ": no create" : submit ? ": no job" : "");
        model.n_writes_failed++;
        model.n_submits_failed += submit;
        model.write_failed_us = sim.now_us;
        model.behind = true;
        if (create)
                back_off(sim.now_us);
}

void model_resume(void) {
        model_forget_failures();
        pool_retry(model.pool);
}

static void on_dying(struct sim_sandbox *s) {
        struct model_lease *m;

        list_for_each (m, &model.leases, link)
                if (m->sandbox == s->number)
                        model_jobs_must_end(m, RESULT_LOST, false);
}

static void on_adopted(struct sim_sandbox *s, const struct result *r) {
        if (!result_ok(r))
                on_dying(s);
}

static void on_giving_up_clean(struct sim_sandbox *s) {
        if (model.stopping)
                return;
        SIM_CHECK(s->clean_since_us + CLEAN_TIMEOUT_US <= sim.now_us, "%s: clean-up was given up early", s->sandbox.id);
        model.backend.totals.cleans_given_up++;
}

/* Whether it has, by the configuration that counts now, no more life to lend. */
static bool is_too_old(const struct sim_sandbox *s) {
        const struct config *c = &model.config;
        int64_t end = c->max_lifetime_us ? s->made_us + c->max_lifetime_us : USEC_NEVER;

        if (s->sandbox.expires_us && s->sandbox.expires_us < end)
                end = s->sandbox.expires_us;
        return end != USEC_NEVER && sim.now_us >= end - c->min_life_us &&
               sim.now_us >= s->made_us + (end - s->made_us) / 2;
}

static bool is_used_up(const struct sim_sandbox *s) {
        const struct config *c = &model.config;

        return (s->n_lent > 0 || s->in_use_before || s->tenant) &&
               (sandbox_is_single_use(&s->sandbox) || c->mode == MODE_DIRECT || c->reset == RESET_ENVIRONMENT ||
                (c->max_uses && s->n_lent >= c->max_uses));
}

/* One of another user waits in vain for a place, and this one is idle longest. It has left its list already. */
static bool makes_place(const struct sim_sandbox *s) {
        struct pool *p = model.pool;
        int64_t places = (int64_t)model.config.max - 1 - pool_count(p, ENVIRONMENT_IDLE) -
                         pool_count(p, ENVIRONMENT_LEASED) - pool_count(p, ENVIRONMENT_CLEANING);
        const struct model_lease *m, *other;
        const struct sim_sandbox *older;

        list_for_each (older, &model.backend.sandboxes, link)
                if (older->idle_since_us < s->idle_since_us && model_is_idle(older))
                        return false;
        list_for_each (m, &model.leases, link) {
                int64_t before = 0;

                if (!m->in_line || model_may_have(m, s) || line_holds_back(m))
                        continue;
                list_for_each (other, &model.leases, link)
                        before += other->in_line && line_is_before(other, m) && !line_holds_back(other);
                if (before >= places)
                        return model.ticking && model.failed_us + model.backoff_us / 2 <= sim.now_us && model.paced_us <= sim.now_us;
        }
        return false;
}

/* What works is ended for a reason only. */
static void on_destroying(struct sim_sandbox *s) {
        const struct config *c = &model.config;
        unsigned idle = pool_count(model.pool, ENVIRONMENT_IDLE);
        unsigned alive = pool_count_all(model.pool) - pool_count(model.pool, ENVIRONMENT_ENDING);

        if (model.stopping || s->doomed || s->adopting || s->adopt_failed || !s->made_us || s->dead ||
            s->clean_failed || s->found_changed || s->clean_refused || s->condemned || s->cleaned.place || s->retired || s->bad_probes >= 2)
                return;
        if (is_too_old(s) || is_used_up(s) || (c->mode == MODE_DIRECT ? idle : alive) >= c->max || makes_place(s))
                return;
        SIM_CHECK(c->idle_timeout_us && clock_after(s->idle_since_us, c->idle_timeout_us) <= sim.now_us &&
                          idle >= c->min,
                  "%s is ended for nothing", s->sandbox.id);
}

/* probes */

static void on_probing(struct sim_sandbox *s) {
        const struct config *c = &model.config;
        struct model_lease *m;

        list_for_each (m, &model.leases, link)
                SIM_CHECK(m->sandbox != s->number, "%s is probed, which lease %s has", s->sandbox.id, m->name);
        SIM_CHECK(c->keepalive_us && (s->bad_probes == 1 || clock_after(s->checked_us, c->keepalive_us) <= sim.now_us),
                  "%s is probed for nothing", s->sandbox.id);
        SIM_CHECK(s->bad_probes < 2, "%s is probed a third time", s->sandbox.id);
        SIM_CHECK(model.n_probing < PROBES_AT_ONCE, "more than %d probes at once", PROBES_AT_ONCE);
        if (!s->probe)
                return;
        s->probe->timeout_us = c->probe_timeout_us;
        model.n_probing++;
}

static void on_probed(struct sim_sandbox *s, bool good) {
        model.n_probing--;
        model.n_probed_out += s->bad_probes == 2;
}

static void on_dropping_probe(struct sim_sandbox *s) {
        bool late = clock_after(s->probe->begun_us, s->probe->timeout_us) <= sim.now_us;

        /* Its time is up first of all in a tick; before the tick something else may have happened to it. */
        s->cut = !late;
        if (late && model.ticking)
                s->bad_probes++;
        model.n_probing--;
        model.n_probed_out += late && model.ticking && s->bad_probes == 2;
}

static const char *value_of(const char *const *env, const char *key) {
        const char *value = NULL;
        size_t len = strlen(key);

        for (; *env; env++)
                if (!strncmp(*env, key, len) && (*env)[len] == '=') {
                        SIM_CHECK(!value, "the environment has %s twice", key);
                        value = *env + len + 1;
                }
        return value ? value : "";
}

static void check_cwd(const struct model_job *j, const char *cwd) {
        char expected[400];

        snprintf(expected, sizeof(expected), "%s%s%s", *j->cwd == '/' ? "" : j->lease->workdir,
                 *j->cwd && *j->cwd != '/' ? "/" : "", j->cwd);
        SIM_CHECK(!strcmp(cwd, expected), "cwd \"%s\", expected \"%s\"", cwd, expected);
}

static void check_spec(const struct model_job *j, const struct exec_spec *spec) {
        char command[sizeof(j->command) + 1] = "", input[sizeof(j->input) + 1] = "";
        const char *x = strrchr(j->env, '=');
        bool refused = j->overflowed || (j->lease->rough && j->left && j->job->output_error); /* with no byte kept */

        blob_read(spec->command, 0, command, sizeof(command) - 1);
        blob_read(spec->input, 0, input, sizeof(input) - 1);
        command[strnlen(command, strlen(j->command))] = '\0';
        SIM_CHECK(spec->command->size == strlen(j->command) + j->padding, "command of %" PRIu64 " bytes",
                  spec->command->size);
        SIM_CHECK(!strcmp(command, j->command), "command \"%s\", expected \"%s\"", command, j->command);
        SIM_CHECK(!strcmp(input, j->input), "input \"%s\", expected \"%s\"", input, j->input);
        check_cwd(j, spec->cwd);
        SIM_CHECK(spec->output_refused == refused, "job %s: output_refused is %d", spec->id,
                  spec->output_refused);
        SIM_CHECK(!strcmp(spec->workdir, j->lease->workdir), "workdir \"%s\", expected \"%s\"", spec->workdir,
                  j->lease->workdir);
        SIM_CHECK(!strcmp(value_of(spec->env, EXEC_MARK), spec->id), "the mark is not the id %s", spec->id);
        SIM_CHECK(!strcmp(value_of(spec->env, "POOL"), "1"), "the pool's environment is missing");
        SIM_CHECK(!strcmp(value_of(spec->env, "X"), x ? x + 1 : ""),
                  "the lease's environment is \"%s\", expected \"%s\"", value_of(spec->env, "X"), j->env);
}

/* What an earlier core started cannot be followed: its environment is given up. */
static void give_up(struct model_lease *m) {
        m->condemned = true;
        model_jobs_must_end(m, RESULT_LOST, false);
}

static void on_exec(struct sim_sandbox *s, const struct exec_spec *spec, uint64_t serial, uint32_t number,
                    struct sim_exec *x) {
        struct model_job *j = find_job(serial, number), *other;

        SIM_CHECK(spec->resume == (j->seen == JOB_RUNNING), "job %s is %s, resume is %d", spec->id,
                  job_state_name(j->seen), spec->resume);
        SIM_CHECK(j->lease->seen == LEASE_LEASED && j->lease->sandbox == s->number,
                  "job %s runs in %s, its lease is %s in sb-%u", spec->id, s->sandbox.id,
                  lease_state_name(j->lease->seen), j->lease->sandbox);
        SIM_CHECK(j->left || (j->seen == JOB_QUEUED && !j->exec), "job %s runs twice", spec->id);
        SIM_CHECK(!x || !j->exec || x == j->exec, "job %s runs beside itself", spec->id);
        list_for_each (other, &j->lease->jobs, link) {
                if (other == j)
                        break;
                SIM_CHECK(other->seen == JOB_ENDED || other->fate_known, "job %s runs before number %" PRIu32, spec->id,
                          other->number);
        }
        check_spec(j, spec);
        SIM_CHECK(!s->ran || s->ran == j->lease->uid, "job %s of user %u runs in %s, where user %u was", spec->id,
                  j->lease->uid, s->sandbox.id, s->ran);
        s->ran = j->lease->uid;
        j->lease->starved_us = !x && model.backend.refusal == -EMFILE ? sim.now_us : 0;
        if (j->lease->starved_us)
                return;
        if (!x) {
                if (j->left)
                        give_up(j->lease);
                else
                        model_job_must_end(j, RESULT_CANCELLED, 0);
                return;
        }
        j->left = false;
        j->exec = x;
        j->given_us = sim.now_us;
        x->job = j;
}

static void on_killing(struct sim_exec *x) {
        struct model_job *j = x->job;
        bool late = j->timeout_us > 0 && x->started_us && clock_after(x->started_us, j->timeout_us) <= sim.now_us;
        bool timed_out = j->killed_us && !j->kill_wanted; /* by an earlier core: that stays the reason */

        late = late || timed_out;
        j->killed_us = sim.now_us;
        if (!timed_out && (x->wrote[0] + x->wrote[1] > model.config.output_max || quota_cut(j)))
                j->kill_wanted = true;
        SIM_CHECK(j->kill_wanted || late, "job %" PRIu64 ".%" PRIu32 " is killed for nothing", x->serial, x->number);
        if (!j->kill_wanted)
                model.n_timeouts++;
}

static void on_cancelling(struct sim_exec *x) {
        struct model_job *j = x->job;

        if (!j)
                return; /* no core knows of it any more */
        j->wrote[0] = x->wrote[0];
        j->wrote[1] = x->wrote[1];
        j->polled_us = x->polled_us;
        j->exec = NULL;
        j->exec_started = x->exec.started;
}

static void on_ending(struct sim_exec *x, const struct result *r, int code) {
        struct model_job *j = x->job;
        bool timed_out = j->killed_us && !j->kill_wanted;

        on_cancelling(x);
        if (j->overflowed || quota_cut(j) || j->wrote[0] + j->wrote[1] > model.config.output_max)
                code = 128 + SIGKILL;
        model_job_must_end(j, r->code, timed_out ? 124 : code);
}

static const struct sim_hooks hooks = {
        .creating = on_creating,
        .created = on_created,
        .adopted = on_adopted,
        .dying = on_dying,
        .giving_up_clean = on_giving_up_clean,
        .exec = on_exec,
        .giving = quota_giving,
        .killing = on_killing,
        .ending = on_ending,
        .cancelling = on_cancelling,
        .destroying = on_destroying,
        .probing = on_probing,
        .probed = on_probed,
        .dropping_probe = on_dropping_probe,
};

/* leases */

/* It was not lent too often, and has the life before it that a lease may expect. */
static void check_age(const struct model_lease *m, const struct sim_sandbox *s) {
        const struct config *c = &model.config;

        SIM_CHECK(!c->max_uses || s->n_lent < c->max_uses, "lease %s is granted %s, which had %u leases", m->name,
                  s->sandbox.id, s->n_lent);
        SIM_CHECK(!is_too_old(s), "lease %s is granted %s, which is too old", m->name, s->sandbox.id);
}

/* One that this user had comes first, then the one that is idle for the shortest time. */
static bool is_better(const struct model_lease *m, const struct sim_sandbox *other, const struct sim_sandbox *s) {
        if (!model_may_have(m, other) || !model_is_idle(other))
                return false;
        return other->user == s->user ? other->idle_since_us > s->idle_since_us : other->user != 0;
}

static void lease_granted(struct model_lease *m) {
        struct sim_sandbox *s = sim_backend_find(&model.backend, lease_environment(m->lease));
        struct sim_sandbox *better;
        struct model_lease *other;

        SIM_CHECK(s, "lease %s is granted %s, which is not there", m->name, lease_environment(m->lease));
        SIM_CHECK(!s->doomed && !s->adopt_failed, "lease %s is granted %s, which is to be ended", m->name, s->sandbox.id);
        SIM_CHECK(model_may_have(m, s) && (!s->ran || s->ran == m->uid), "lease %s of user %u is granted %s of user %u",
                  m->name, m->uid, s->sandbox.id, s->user ?: s->ran);
        if (m->restoring) {
                s->user = m->uid;
                SIM_CHECK(m->sandbox == s->number && s->sandbox.state == SANDBOX_LIVE &&
                                  (!s->tenant || s->tenant == m->serial),
                          "lease %s had sb-%u, is given back %s, tenant %" PRIu64, m->name, m->sandbox, s->sandbox.id,
                          s->tenant);
                m->restoring = false;
                return;
        }
        SIM_CHECK(s->sandbox.state == SANDBOX_LIVE && !s->sandbox.cleaning && !s->tenant && !s->clean_failed &&
                          list_empty(&s->execs) && !s->probe && s->bad_probes < 2,
                  "lease %s is granted %s, which is in state %d%s%s, tenant %" PRIu64, m->name, s->sandbox.id,
                  s->sandbox.state, s->sandbox.cleaning ? ", cleaning" : "", s->clean_failed ? ", not clean" : "",
                  s->tenant);
        list_for_each (other, &model.leases, link) {
                SIM_CHECK(other == m || other->sandbox != s->number, "lease %s is granted %s, which lease %s has",
                          m->name, s->sandbox.id, other->name);
                SIM_CHECK(other == m || !other->in_line || line_is_before(m, other) || !model_may_have(other, s) ||
                                  line_holds_back(other),
                          "lease %s is granted %s before lease %s", m->name, s->sandbox.id, other->name);
        }
        SIM_CHECK(!line_holds_back(m), "lease %s is granted %s, and user %u has too many", m->name, s->sandbox.id, m->uid);
        list_for_each (better, &model.backend.sandboxes, link)
                SIM_CHECK(!is_better(m, better, s), "lease %s is granted %s, but %s is there", m->name, s->sandbox.id,
                          better->sandbox.id);
        SIM_CHECK(!s->retired, "lease %s is granted %s, which was recycled", m->name, s->sandbox.id);
        SIM_CHECK(!rows_give_away(s, m), "lease %s is granted %s, which by the journal another lease has", m->name,
                  s->sandbox.id);
        check_age(m, s);
        SIM_CHECK(!s->changed, "lease %s is granted %s, which is not as it was", m->name, s->sandbox.id);
        SIM_CHECK(!s->lent || !s->ran || !sandbox_is_single_use(&s->sandbox),
                  "lease %s is granted %s, and nobody knows what another lease left there", m->name, s->sandbox.id);
        SIM_CHECK(!s->lent || (model.config.mode == MODE_POOL && model.config.reset != RESET_ENVIRONMENT), "lease %s is granted %s, which is not new", m->name,
                  s->sandbox.id);
        SIM_CHECK(!s->lent || model.max_lowered_turn == sim.turn ||
                          pool_count_all(model.pool) - pool_count(model.pool, ENVIRONMENT_ENDING) <= model.config.max,
                  "lease %s is granted %s, which is one too many", m->name, s->sandbox.id);
        m->sandbox = s->number;
        s->user = m->uid;
        s->lent = true;
        s->cut = false; /* that is what it was cut for */
        s->n_lent++;
        model.n_granted++;
}

static void lease_failed(struct model_lease *m) {
        enum result_code code = lease_code(m->lease);
        const struct sim_sandbox *s;

        SIM_CHECK(may_fail(m, code), "lease %s failed for nothing: %s", m->name, result_code_name(code));
        SIM_CHECK(lease_error(m->lease), "lease %s failed without a word", m->name);
        list_for_each (s, &model.backend.sandboxes, link)
                SIM_CHECK(!model_may_have(m, s) || !model_is_idle(s) || line_holds_back(m), "lease %s failed beside %s", m->name, s->sandbox.id);
        model.n_failed++;
}

static void lease_lost(struct model_lease *m) {
        char id[16];
        struct sim_sandbox *s;

        snprintf(id, sizeof(id), "sb-%u", m->sandbox);
        s = sim_backend_find(&model.backend, id);
        SIM_CHECK(s && (s->dead || s->adopt_failed || m->condemned), "lease %s lost %s for nothing", m->name, id);
        SIM_CHECK(lease_code(m->lease) == RESULT_LOST, "lease %s is lost with %s", m->name,
                  result_code_name(lease_code(m->lease)));
        if (!s->dead && !s->adopt_failed) {
                model.n_condemned++;
                s->condemned = true;
        }
        m->sandbox = 0;
        m->condemned = m->restoring = false;
        model.n_lost++;
}

/* After a crash it is there again, with what it left: so nobody else may have that sandbox. */
static void retire(const struct model_lease *m) {
        struct sim_sandbox *s;

        list_for_each (s, &model.backend.sandboxes, link)
                if (s->number == m->sandbox)
                        s->retired = true;
}

void model_on_lease_changed(struct watch *w) {
        struct model_lease *m = container_of(w, struct model_lease, watch);
        enum lease_state from = m->seen, to = lease_state(m->lease);

        sim_trace("lease %s %s", m->name, lease_state_name(to));
        m->seen = to;
        if (m->in_line)
                line_leave(m, to == LEASE_LEASED);
        switch (to) {
        case LEASE_LEASED:
                SIM_CHECK(from == LEASE_WAITING, "lease %s was %s, is leased", m->name, lease_state_name(from));
                lease_granted(m);
                return;
        case LEASE_FAILED:
                SIM_CHECK(from == LEASE_WAITING, "lease %s was %s, is failed", m->name, lease_state_name(from));
                lease_failed(m);
                return;
        case LEASE_LOST:
                SIM_CHECK(from == LEASE_LEASED || m->restoring, "lease %s was %s, is lost", m->name,
                          lease_state_name(from));
                lease_lost(m);
                return;
        case LEASE_WAITING:
                SIM_CHECK(from == LEASE_LOST || from == LEASE_FAILED, "lease %s was %s, waits", m->name,
                          lease_state_name(from));
                line_join(m);
                return;
        case LEASE_RELEASED:
                SIM_CHECK(from != LEASE_RELEASED, "lease %s is released twice", m->name);
                if (rows_have(m))
                        retire(m);
                return;
        case LEASE_N_STATES:
                return;
        }
}

/* the whole */

void model_start(const struct config *config, const struct sim_rates *rates, int spool_dir) {
        struct result why;
        bool damaged;

        model = (struct model){ .config = *config, .spool_dir = spool_dir };
        list_init(&model.leases);
        list_init(&model.gone);
        sim_backend_init(&model.backend, rates, &hooks);
        SIM_CHECK(journal_open(&model.journal, ":memory:", "simulated", sim_clock, &damaged, &why) == 0, "no journal");
        model_open_core();
}

void model_end(void) {
        SIM_CHECK(list_empty(&model.leases) && list_empty(&model.gone), "leases are left");
        SIM_CHECK(list_empty(&model.backend.sandboxes) && model.backend.backend.n_sandboxes == 0, "sandboxes are left");
        SIM_CHECK(core_is_empty(model.core) && pool_is_empty(model.pool) && leases_count(model.table) == 0,
                  "the core is not empty");
        core_free(model.core);
        sim_backend_forget_strays(&model.backend);
        journal_close(model.journal);
        backend_free(&model.backend.backend);
}
