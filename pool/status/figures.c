/* SPDX-License-Identifier: MIT */
#include <assert.h>

#include "pool/lease/end.h"
#include "pool/status/figures.h"

static void count_lease(void *data, const struct lease_info *info) {
        struct lease_counts *n = data;

        n->in_state[info->state]++;
        n->jobs[JOB_QUEUED] += info->queued;
        n->jobs[JOB_STARTING] += info->starting;
        n->jobs[JOB_RUNNING] += info->running;
        if (info->state == LEASE_WAITING && n->oldest_wait_us < info->wait_us)
                n->oldest_wait_us = info->wait_us;
}

void lease_counts_collect(struct lease_counts *n, const struct status_sources *s) {
        *n = (struct lease_counts){};
        leases_each(s->leases, s->now_us, count_lease, n);
}

static void add(struct figures *f, enum figure_kind kind, const char *name, uint64_t value, const char *help) {
        assert(f->n < FIGURES_MAX);
        f->all[f->n++] = (struct figure){ kind, name, help, value };
}

static void add_of_mount(struct figures *f, enum figure_kind kind, const char *name, uint64_t value, const char *help) {
        add(f, kind, name, value, help);
        f->all[f->n - 1].of_mount = true;
}

static void add_summary(struct figures *f, const char *name, int64_t sum_us, uint64_t count, const char *help) {
        assert(f->n < FIGURES_MAX);
        f->all[f->n++] = (struct figure){ FIGURE_SUMMARY, name, help, sum_us, count };
}

static struct figure_group *add_group(struct figures *f, struct figure_group group) {
        assert(f->n_groups < FIGURE_GROUPS_MAX);
        f->groups[f->n_groups] = group;
        return &f->groups[f->n_groups++];
}

static void add_to_group(struct figure_group *g, const char *word, uint64_t value) {
        assert(g->n < sizeof(g->of) / sizeof(g->of[0]));
        g->of[g->n].word = word;
        g->of[g->n++].value = value;
}

static void collect_groups(struct figures *f, const struct status_sources *s, const struct lease_counts *n) {
        struct figure_group *g;

        g = add_group(f, (struct figure_group){ FIGURE_GAUGE, "environments", "environments", "state",
                                                "Environments by state" });
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                add_to_group(g, environment_state_name(i), pool_count(s->pool, i));
        g = add_group(f, (struct figure_group){ FIGURE_COUNTER, "environments_returned_total", "environments_returned", "how",
                                                "Environments that came back from a lease whose jobs ran there" });
        for (int i = 0; i < RETURN_N; i++)
                add_to_group(g, environment_return_name(i), pool_returns(s->pool)->n[i]);
        g = add_group(f, (struct figure_group){ FIGURE_GAUGE, "leases", "leases_by_state", "state",
                                                "Leases by state" });
        for (int i = 0; i < LEASE_RELEASED; i++)
                add_to_group(g, lease_state_name(i), n->in_state[i]);
        g = add_group(f, (struct figure_group){ FIGURE_GAUGE, "jobs", "jobs", "state",
                                                "Jobs that have not ended, by state" });
        for (int i = 0; i < JOB_ENDED; i++)
                add_to_group(g, job_state_name(i), n->jobs[i]);
        g = add_group(f, (struct figure_group){ FIGURE_COUNTER, "jobs_ended_total", "jobs_ended", "end",
                                                "Jobs by how they ended" });
        for (int i = 0; i < JOB_N_ENDS; i++)
                add_to_group(g, job_end_name(i), leases_totals(s->leases)->ended[i]);
}

static void collect_now(struct figures *f, const struct status_sources *s, const struct lease_counts *n) {
        add(f, FIGURE_GAUGE, "leases_waiting", pool_count_waiting(s->pool), "Leases that wait for an environment");
        add(f, FIGURE_SECONDS, "leases_oldest_wait_seconds", n->oldest_wait_us,
            "How long the longest of them has waited");
        add(f, FIGURE_GAUGE, "environments_max", s->config->max, "Environments at most, but for oversubscription");
        add(f, FIGURE_GAUGE, "environments_min", s->config->min, "Environments kept ready");
        add_of_mount(f, FIGURE_GAUGE, "spool_bytes", leases_spool_bytes(s->leases),
            "Bytes of commands, input and output kept on disk");
        add_of_mount(f, FIGURE_GAUGE, "spool_max_bytes", s->config->spool_max, "Of these at most, 0: no maximum");
        add_of_mount(f, FIGURE_GAUGE, "spool_max_per_user_bytes", s->config->spool_max_per_user,
            "Of these at most of one user, 0: no maximum");
        add_of_mount(f, FIGURE_GAUGE, "reads_waiting", s->n_reads, "Reads that wait for a result");
        add_of_mount(f, FIGURE_SECONDS, "reads_oldest_wait_seconds", s->n_reads ? s->now_us - s->oldest_read_us : 0,
            "How long the longest of them has waited");
        add_of_mount(f, FIGURE_SECONDS, "loop_longest_turn_seconds", s->lag->longest_us,
            "The longest turn of the loop, during which nobody is answered");
        add_of_mount(f, FIGURE_SECONDS, "loop_longest_turn_of_minute_seconds", lag_longest_of_minute(s->lag, s->now_us),
            "The longest of the last minute");
}

static void collect_totals(struct figures *f, const struct status_sources *s) {
        static const struct backend_uploads none;
        const struct backend_uploads *uploads = backend_uploads(pool_backend(s->pool)) ?: &none;
        const struct pool_totals *n = pool_totals(s->pool);

        add(f, FIGURE_COUNTER, "environments_created_total", n->created, "Environments created");
        add(f, FIGURE_COUNTER, "environments_create_failures_total", n->create_failures, "Creates that failed");
        add(f, FIGURE_COUNTER, "environments_destroyed_total", n->destroyed, "Environments ended");
        add(f, FIGURE_COUNTER, "environments_destroy_failures_total", n->destroy_failures,
            "Environments whose end could not be confirmed");
        add(f, FIGURE_COUNTER, "environments_died_total", n->died, "Environments that died by themselves");
        add(f, FIGURE_COUNTER, "environments_cleaned_total", n->cleaned, "Clean-ups that were verified");
        add(f, FIGURE_COUNTER, "environments_clean_failures_total", n->clean_failures,
            "Clean-ups that failed; the environment was destroyed");
        add(f, FIGURE_COUNTER, "environments_orphans_total", n->orphans,
            "Environments of an earlier run that were found");
        add(f, FIGURE_COUNTER, "environments_adopted_total", n->adopted, "Of these, taken back");
        add_summary(f, "helper_uploads_seconds", uploads->took_us, uploads->done,
                    "Time until the helper ran in a sandbox that came without one");
        add(f, FIGURE_COUNTER, "helper_uploads_failed_total", uploads->failed,
            "Sandboxes into which it could not be put");
        add(f, FIGURE_COUNTER, "oversubscribed_total", n->oversubscribed, "Environments created over max");
        add(f, FIGURE_COUNTER, "leases_granted_total", n->granted, "Environments lent");
        add(f, FIGURE_COUNTER, "leases_granted_warm_total", n->granted_warm, "Environments lent without a wait");
        add(f, FIGURE_COUNTER, "leases_granted_cold_total", n->granted - n->granted_warm,
            "Environments lent after a wait");
        add(f, FIGURE_COUNTER, "leases_wait_microseconds_total", n->wait_us, "Time that granted leases had waited");
        add_summary(f, "leases_wait_seconds", n->wait_us, n->granted, "Time that granted leases had waited");
        add(f, FIGURE_COUNTER, "jobs_submitted_total", leases_totals(s->leases)->submitted, "Jobs submitted");
        add(f, FIGURE_COUNTER, "output_bytes_total", leases_totals(s->leases)->output_bytes,
            "Bytes of output that jobs have written");
        add(f, FIGURE_COUNTER, "file_calls_total", leases_totals(s->leases)->file_calls,
            "Calls about files of environments");
        add_summary(f, "loop_turn_seconds", s->lag->sum_us, s->lag->turns, "Turns of the loop, but for their sleep");
        f->all[f->n - 1].of_mount = true;
        add_of_mount(f, FIGURE_COUNTER, "loop_slow_turns_total", s->lag->slow_turns, "Turns of 0.1 s or more");
}

void figures_collect(struct figures *f, const struct status_sources *s) {
        struct lease_counts n;

        lease_counts_collect(&n, s);
        f->n = f->n_groups = 0;
        collect_groups(f, s, &n);
        collect_now(f, s, &n);
        collect_totals(f, s);
}
