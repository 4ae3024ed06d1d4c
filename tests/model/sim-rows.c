/* SPDX-License-Identifier: MIT */

/* The journal's rows, compared with the records. */

#include <inttypes.h>
#include <string.h>

#include "pool/lease/lease-body.h"
#include "pool/environment/environment.h"
#include "sim-model.h"

static unsigned n_rows;
static uint64_t digest;

static struct sim_sandbox *find_nonce(const char *nonce) {
        struct sim_sandbox *s;

        list_for_each (s, &model.backend.sandboxes, link)
                if (!strcmp(s->nonce, nonce))
                        return s;
        return NULL;
}

/* One that could not be ended stays in the journal, for the next run to try again; rewriting it forgets that. */
static int check_environment(void *data, const struct journal_environment *row) {
        struct sim_sandbox *s = find_nonce(row->nonce);
        const char *workdir = row->workdir ?: "";

        if (!s && row->ending)
                return 0;
        SIM_CHECK(s, "the journal has environment %s, which the core has not", row->nonce);
        n_rows++;
        SIM_CHECK(row->ending == (s->sandbox.state == SANDBOX_ENDING), "%s: the journal has ending %d", s->sandbox.id,
                  row->ending);
        if (s->doomed)
                return 0; /* nobody cares for more of it than that */
        SIM_CHECK(!strcmp(row->resume_token, s->has_resume_token ? s->resume_token : ""),
                  "%s: the journal has resume token \"%s\"",
                  s->sandbox.id, row->resume_token);
        SIM_CHECK(row->uses == s->n_lent, "%s: the journal has %" PRIu64 " uses, it had %u", s->sandbox.id, row->uses,
                  s->n_lent);
        SIM_CHECK(row->user == (s->user ?: ENVIRONMENT_NO_USER), "%s: the journal has user %u, it is %u's", s->sandbox.id,
                  row->user, s->user);
        SIM_CHECK(!s->tenant || !strcmp(workdir, s->workdir), "%s: the journal has workdir \"%s\", used is %s",
                  s->sandbox.id, workdir, s->workdir);
        SIM_CHECK(!s->has_resume_token || !s->made_us || row->created_us == s->made_us,
                  "%s: the journal has another time of its create",
                  s->sandbox.id);
        return 0;
}

static int check_job(void *data, const struct journal_job *row) {
        const struct model_lease *m = data;
        const struct job *job = lease_job(m->lease, row->number);
        int state = job && job->state == JOB_QUEUED && job->written_as_starting ? JOB_STARTING : job ? (int)job->state : 0;

        SIM_CHECK(job, "the journal has job %" PRIu64 ".%" PRIu32 ", which the lease has not", m->serial, row->number);
        n_rows++;
        SIM_CHECK(row->state == state && row->code == (int)job->code && row->exit_code == job->exit_code &&
                          row->wanted_dead == (job->fate != JOB_FATE_OWN) &&
                          row->timed_out == (job->fate == JOB_FATE_TIMEOUT) &&
                          row->started_us == job->started_us && row->timeout_us == job->settings.timeout_us,
                  "job %" PRIu64 ".%" PRIu32 " is %s, the journal has it as %s", m->serial, row->number,
                  job_state_name(job->state), job_state_name(row->state));
        return 0;
}

static struct model_lease *find_serial(uint64_t serial) {
        struct model_lease *m;

        list_for_each (m, &model.leases, link)
                if (m->serial == serial)
                        return m;
        return NULL;
}

static int check_lease(void *data, const struct journal_lease *row) {
        struct model_lease *m = find_serial(row->serial);
        struct sim_sandbox *s;

        SIM_CHECK(m && !strcmp(row->name, m->name), "the journal has lease %s, which nobody has", row->name);
        n_rows++;
        s = row->environment ? find_nonce(row->environment) : NULL;
        SIM_CHECK((s ? s->number : 0) == m->sandbox && !row->environment == !m->sandbox,
                  "lease %s has sb-%u, the journal has %s", m->name, m->sandbox, row->environment ?: "none");
        SIM_CHECK(row->state == (int)m->seen && row->code == (int)lease_code(m->lease),
                  "lease %s is %s, the journal has it as %s", m->name, lease_state_name(m->seen),
                  lease_state_name(row->state));
        SIM_CHECK(!strcmp(row->cwd, m->cwd) && !strcmp(row->env, m->env) && row->timeout_us == m->timeout_us &&
                          row->prepared == m->lease->prepared,
                  "lease %s: the journal has other settings", m->name);
        return 0;
}

/* As many rows as there are things, and each row is one of them: the same. */
void check_rows(void) {
        struct model_lease *m;
        unsigned n = 0;

        n_rows = 0;
        SIM_CHECK(journal_each_environment(model.journal, check_environment, NULL) == 0, "environments cannot be read");
        SIM_CHECK(n_rows == pool_count_all(model.pool), "the journal has %u environments of %u", n_rows,
                  pool_count_all(model.pool));
        n_rows = 0;
        SIM_CHECK(journal_each_lease(model.journal, check_lease, NULL) == 0, "leases cannot be read");
        SIM_CHECK(n_rows == model.n_leases, "the journal has %u leases of %u", n_rows, model.n_leases);
        list_for_each (m, &model.leases, link) {
                n = n_rows = 0;
                for (struct job *j = lease_job_after(m->lease, 0); j; j = lease_job_after(m->lease, j->number))
                        n++;
                SIM_CHECK(journal_each_job(model.journal, m->serial, check_job, m) == 0, "jobs cannot be read");
                SIM_CHECK(n_rows == n, "lease %s: the journal has %u jobs of %u", m->name, n_rows, n);
        }
}

struct search {
        const struct model_lease *lease;
        const char *nonce; /* NULL: find the lease; else another one with this environment */
        bool found;
};

static int find_row(void *data, const struct journal_lease *row) {
        struct search *search = data;
        bool own = row->serial == search->lease->serial;

        search->found |= search->nonce ? !own && row->environment && !strcmp(row->environment, search->nonce) : own;
        return 0;
}

static bool find(struct search search) {
        SIM_CHECK(journal_each_lease(model.journal, find_row, &search) == 0, "leases cannot be read");
        return search.found;
}

bool rows_have(const struct model_lease *m) {
        return find((struct search){ .lease = m });
}

bool rows_give_away(const struct sim_sandbox *s, const struct model_lease *m) {
        return find((struct search){ .lease = m, .nonce = s->nonce });
}

static void add(uint64_t n) {
        digest = digest * UINT64_C(0x100000001b3) + n;
}

static int add_environment(void *data, const struct journal_environment *row) {
        add(row->ending * 2 + (row->workdir != NULL) + row->uses * 4);
        return 0;
}

static int add_job(void *data, const struct journal_job *row) {
        add((row->number * 4 + row->state) * 2 + row->wanted_dead);
        return 0;
}

static int add_lease(void *data, const struct journal_lease *row) {
        add(row->serial * 8 + row->state);
        return 0;
}

uint64_t rows_digest(void) {
        struct model_lease *m;

        digest = 0;
        (void)journal_each_environment(model.journal, add_environment, NULL);
        (void)journal_each_lease(model.journal, add_lease, NULL);
        list_for_each (m, &model.leases, link)
                (void)journal_each_job(model.journal, m->serial, add_job, NULL);
        return digest;
}
