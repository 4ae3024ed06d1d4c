/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim-model.h"
#include "pool/environment/limits.h"
#include "pool/lease/limits.h"
#include "pool/util/clock.h"

/* What has to be true after each tick, whatever happened before. */

static unsigned min_of(unsigned a, unsigned b) {
        return a < b ? a : b;
}

/* the core's list of environments is the provider's */

static int64_t next_tick_us; /* what the tick said */

/* It was not to be done yet, and will be when it is. */
static bool is_in_time(int64_t due_us) {
        return due_us > sim.now_us && due_us >= next_tick_us;
}

/* Not for too long, and probed in time. */
static void check_idle(const struct sim_sandbox *s) {
        const struct config *c = &model.config;
        int64_t end = clock_after(s->idle_since_us, c->idle_timeout_us + c->idle_timeout_us / 10);
        int64_t probe = s->bad_probes == 1 ? 0 : clock_after(s->checked_us, c->keepalive_us);
        int64_t probe_end = s->probe ? clock_after(s->probe->begun_us, s->probe->timeout_us) : USEC_NEVER;

        SIM_CHECK(!c->idle_timeout_us || pool_count(model.pool, ENVIRONMENT_IDLE) <= c->min ||
                          (end > sim.now_us && end >= next_tick_us),
                  "%s is idle for too long", s->sandbox.id);
        SIM_CHECK(s->probe || !c->keepalive_us || model.n_probing == PROBES_AT_ONCE ||
                          (probe > sim.now_us && probe >= next_tick_us),
                  "%s is not probed in time", s->sandbox.id);
        SIM_CHECK(probe_end > sim.now_us && probe_end >= next_tick_us, "%s is probed for too long", s->sandbox.id);
        SIM_CHECK(s->probe || !s->cut, "a probe of %s was cut short for nothing", s->sandbox.id);
}

struct listing {
        unsigned n[ENVIRONMENT_N_STATES];
};

static void check_environment(void *data, const struct environment_info *info) {
        static const enum sandbox_state live[ENVIRONMENT_N_STATES] = {
                [ENVIRONMENT_CREATING] = SANDBOX_CREATING, [ENVIRONMENT_IDLE] = SANDBOX_LIVE,
                [ENVIRONMENT_LEASED] = SANDBOX_LIVE,       [ENVIRONMENT_CLEANING] = SANDBOX_LIVE,
                [ENVIRONMENT_ENDING] = SANDBOX_ENDING,
        };
        struct listing *listing = data;
        struct sim_sandbox *s = sim_backend_find(&model.backend, info->id);
        struct model_lease *m = info->lease ? model_find(info->lease) : NULL;

        SIM_CHECK(s, "%s is listed as %s and does not exist", info->id, environment_state_name(info->state));
        SIM_CHECK(s->sandbox.state == (s->adopting && info->unanswered ? SANDBOX_CREATING : live[info->state]) &&
                          (info->state == ENVIRONMENT_ENDING ||
                           s->sandbox.cleaning == (info->state == ENVIRONMENT_CLEANING)),
                  "%s is listed as %s, and is in state %d", info->id, environment_state_name(info->state),
                  s->sandbox.state);
        SIM_CHECK((info->state == ENVIRONMENT_LEASED) == (info->lease != NULL), "%s is %s by %s", info->id,
                  environment_state_name(info->state), info->lease ? info->lease : "nobody");
        SIM_CHECK(!info->lease || (m && (m->seen == LEASE_LEASED || m->restoring) && m->sandbox == s->number),
                  "%s is listed with lease %s, which does not have it", info->id, info->lease);
        SIM_CHECK(info->state != ENVIRONMENT_IDLE || !s->tenant, "%s is idle and not clean", info->id);
        SIM_CHECK(info->state == ENVIRONMENT_LEASED || list_empty(&s->execs) || info->unanswered, "%s runs a job for nobody", info->id);
        SIM_CHECK(info->state != ENVIRONMENT_CLEANING || clock_after(s->clean_since_us, CLEAN_TIMEOUT_US) > sim.now_us,
                  "%s is cleaned for too long", info->id);
        SIM_CHECK(info->state != ENVIRONMENT_IDLE || model.stopping || info->retire_us > sim.now_us,
                  "%s is idle and too old to be lent", info->id);
        SIM_CHECK(s->bad_probes < 2 || info->state == ENVIRONMENT_ENDING, "%s failed two probes and is %s", info->id,
                  environment_state_name(info->state));
        if (info->state == ENVIRONMENT_IDLE && !model.stopping)
                check_idle(s);
        else
                SIM_CHECK(!s->probe, "%s has a probe and is %s", info->id, environment_state_name(info->state));
        listing->n[info->state]++;
}

static void check_environments(void) {
        struct listing listing = {};
        struct sim_sandbox *s;
        unsigned all = 0, there = 0;

        pool_each_environment(model.pool, check_environment, &listing);
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++) {
                SIM_CHECK(listing.n[i] == pool_count(model.pool, i), "%u are listed as %s, %u are counted",
                          listing.n[i], environment_state_name(i), pool_count(model.pool, i));
                all += listing.n[i];
        }
        list_for_each (s, &model.backend.sandboxes, link)
                there++;
        /* Each of the listed exists; as many of each: the same ones. */
        SIM_CHECK(all == there && all == model.backend.backend.n_sandboxes && all == pool_count_all(model.pool),
                  "%u environments are listed, %u exist", all, there);
}

/* leases and their jobs */

static void check_jobs(const struct model_lease *m) {
        const struct job *current = lease_current(m->lease), *job;
        bool starved = m->starved_us && next_tick_us <= clock_after(sim.now_us, STARVED_AGAIN_US);
        unsigned n_queued = 0, n_ended = 0;
        struct model_job *j;
        uint32_t number = 0;

        list_for_each (j, &m->jobs, link) {
                const struct sim_exec *x = j->exec;

                SIM_CHECK(j->job->state == j->seen, "job %" PRIu64 ".%" PRIu32 " changed and did not tell", m->serial,
                          j->number);
                n_queued += j->seen == JOB_QUEUED;
                SIM_CHECK((j->seen == JOB_STARTING || j->seen == JOB_RUNNING) ==
                                  ((j->exec != NULL || m->restoring || starved) && j->job == current),
                          "job %" PRIu64 ".%" PRIu32 " is %s", m->serial, j->number, job_state_name(j->seen));
                SIM_CHECK(!j->fate_known || j->seen == JOB_ENDED, "job %" PRIu64 ".%" PRIu32 " should have ended",
                          m->serial, j->number);
                SIM_CHECK(!j->left || m->restoring || starved || j->seen == JOB_ENDED,
                          "job %" PRIu64 ".%" PRIu32 " was not gone on with", m->serial, j->number);
                if (!x || m->restoring || (starved && j->left))
                        continue;
                SIM_CHECK(!j->kill_wanted || x->killed_us, "job %" PRIu64 ".%" PRIu32 " should have been killed",
                          m->serial, j->number);
                SIM_CHECK(x->killed_us || x->polled_us || !x->exec.started || !j->timeout_us ||
                                  is_in_time(clock_after(x->started_us, j->timeout_us)),
                          "job %" PRIu64 ".%" PRIu32 " runs past its time", m->serial, j->number);
                SIM_CHECK(x->killed_us || !x->polled_us ||
                                  is_in_time(clock_after(x->polled_us, EXEC_POLL_TIMEOUT_US)),
                          "job %" PRIu64 ".%" PRIu32 " is not heard of, and nobody gives up", m->serial, j->number);
                SIM_CHECK(x->killed_us || x->exec.started || is_in_time(clock_after(j->given_us, START_TIMEOUT_US)),
                          "job %" PRIu64 ".%" PRIu32 " does not start, and nobody gives up", m->serial, j->number);
                SIM_CHECK(!x->killed_us || is_in_time(clock_after(x->killed_us, x->grace_us + KILL_TIMEOUT_US)),
                          "job %" PRIu64 ".%" PRIu32 " survives its kill", m->serial, j->number);
        }
        SIM_CHECK(n_queued == lease_queued(m->lease), "lease %s has %u queued, %u are", m->name, lease_queued(m->lease),
                  n_queued);
        SIM_CHECK(m->seen == LEASE_WAITING || m->seen == LEASE_LEASED || (n_queued == 0 && !current),
                  "lease %s is %s and has jobs that do not end", m->name, lease_state_name(m->seen));
        SIM_CHECK(m->seen != LEASE_LEASED || n_queued == 0 || current || starved,
                  "lease %s has an environment, jobs, and no hurry", m->name);
        for (job = lease_job_after(m->lease, 0); job; job = lease_job_after(m->lease, number)) {
                number = job->number;
                n_ended += job->state == JOB_ENDED;
        }
        SIM_CHECK(n_ended <= model.config.history || m->rough, "lease %s keeps %u finished jobs", m->name, n_ended);
        SIM_CHECK(number == 0 || number == m->last_number, "lease %s: its newest job is missing", m->name);
}

static void check_leases(void) {
        struct model_lease *m;
        struct lease *l = NULL;
        unsigned n_waiting = 0;
        uint64_t serial = 0;

        list_for_each (m, &model.leases, link) {
                l = leases_after(model.table, serial);
                SIM_CHECK(l == m->lease && leases_find(model.table, m->name) == l &&
                                  leases_find_serial(model.table, m->serial) == l,
                          "lease %s is not where it belongs in the table", m->name);
                SIM_CHECK(lease_state(l) == m->seen, "lease %s changed and did not tell", m->name);
                SIM_CHECK((lease_environment(l) != NULL) == (m->seen == LEASE_LEASED || m->restoring),
                          "lease %s is %s and %s an environment", m->name, lease_state_name(m->seen),
                          lease_environment(l) ? "has" : "lacks");
                n_waiting += m->in_line;
                check_jobs(m);
                serial = m->serial;
        }
        SIM_CHECK(!leases_after(model.table, serial) && leases_count(model.table) == model.n_leases,
                  "the table has leases that nobody made");
        SIM_CHECK(n_waiting == pool_count_waiting(model.pool), "%u leases wait, the pool knows %u", n_waiting,
                  pool_count_waiting(model.pool));
        list_for_each (m, &model.gone, link)
                SIM_CHECK(!model_find(m->name) || leases_find(model.table, m->name) != m->lease,
                          "lease %s is found after its release", m->name);
}

/* nothing is stuck, nothing is too much */

static void check_hope(const struct model_lease *m) {
        const struct sim_sandbox *s;

        list_for_each (s, &model.backend.sandboxes, link)
                SIM_CHECK(!model_may_have(m, s) || !model_is_idle(s) || line_holds_back(m), "lease %s waits, and %s is idle", m->name,
                          s->sandbox.id);
        SIM_CHECK(!model.broken || model.trial_us <= sim.now_us || model_one_may_come_free(m) || line_holds_back(m),
                  "lease %s waits and was not told that it is hopeless", m->name);
}

static void check_progress(int64_t next_us) {
        struct pool *p = model.pool;
        const struct config *c = &model.config;
        unsigned waiting = line_count(sim.now_us), idle = pool_count(p, ENVIRONMENT_IDLE);
        unsigned creating = pool_count(p, ENVIRONMENT_CREATING), all = pool_count_all(p), room, wanted;
        unsigned overdue = line_count(sim.now_us - c->wait_us), failing = 0;
        unsigned alive = all - pool_count(p, ENVIRONMENT_ENDING);
        int64_t first_due = USEC_NEVER, places;
        struct model_lease *m;

        SIM_CHECK(next_us > sim.now_us, "the tick says now, for ever");
        if (model.stopping)
                return;
        list_for_each (m, &model.leases, link) {
                int64_t due = clock_after(m->since_us, c->wait_us);

                if (!m->in_line)
                        continue;
                check_hope(m);
                failing += due <= sim.now_us;
                if (due > sim.now_us && due < first_due)
                        first_due = due;
        }
        SIM_CHECK(clock_after(model.backend.list_us, ORPHAN_INTERVAL_US) > sim.now_us,
                  "no tick is due that lists orphans");
        places = (int64_t)c->max - idle - pool_count(p, ENVIRONMENT_LEASED) - pool_count(p, ENVIRONMENT_CLEANING);
        SIM_CHECK(waiting == 0 || idle == 0 || c->mode == MODE_DIRECT || places >= waiting ||
                          creating + pool_count(p, ENVIRONMENT_ENDING) >= (model.broken ? 1 : c->creates) ||
                          next_us <= model_creates_by(),
                  "%u leases wait, and none of %u idle environments of other users makes room", waiting, idle);
        SIM_CHECK(c->mode == MODE_DIRECT ? idle <= c->max : idle == 0 || alive <= c->max,
                  "%u environments live, %u of them idle, max is %" PRIu64, alive, idle, c->max);
        SIM_CHECK(failing == 0 || c->oversubscribe, "%u leases wait longer than they may", failing);
        SIM_CHECK(overdue >= c->creates || next_us <= first_due,
                  "no tick is due when the first waiting lease has waited too long");

        room = c->mode == MODE_DIRECT ? UINT32_MAX / 2 : all < c->max ? (unsigned)c->max - all : 0;
        wanted = min_of(waiting, creating + room);
        if (overdue > wanted)
                wanted = overdue;
        if (waiting == 0 && idle + pool_count(p, ENVIRONMENT_CLEANING) < c->min)
                wanted = min_of(c->min - idle - pool_count(p, ENVIRONMENT_CLEANING), creating + room);
        SIM_CHECK(creating >= min_of(wanted, model.broken ? 1 : c->creates) || next_us <= model_creates_by(),
                  "%u leases wait, %u overdue, room for %u, %u creating, and nothing is due", waiting, overdue, room,
                  creating);

        /* Asked for once, done once; while creates have to wait it may be done later. */
        if (idle + creating >= model.prewarm && model_creates_by() < sim.now_us)
                model.prewarm = 0;
}

static void check_totals(void) {
        const struct pool_totals *core = pool_totals(model.pool);
        const struct sim_totals *own = &model.backend.totals;

#define SAME(field, b)                                                                                                 \
        SIM_CHECK(core->field + model.earlier.field == (b), #field " is %" PRIu64 " and %" PRIu64 ", %s is %" PRIu64,     \
                  model.earlier.field, core->field, #b, (uint64_t)(b))
        SAME(created, own->created);
        SAME(create_failures, own->create_failures);
        SAME(destroyed, own->destroyed);
        SAME(destroy_failures, own->destroy_failures);
        SAME(died, own->died + own->adopt_failures + model.n_condemned + model.n_probed_out);
        SAME(granted, model.n_granted);
        SAME(cleaned, own->cleaned);
        SAME(changed, own->changed);
        SAME(clean_failures, own->clean_failures + own->cleans_given_up);
        SAME(oversubscribed, model.n_oversubscribed);
        SAME(adopted, own->adopted);
        SAME(orphans, own->orphans);
#undef SAME
}

void check_all(int64_t next_us) {
        next_tick_us = next_us;
        check_environments();
        check_leases();
        check_progress(next_us);
        check_totals();
        check_quota();
}
