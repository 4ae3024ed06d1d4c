/* SPDX-License-Identifier: MIT */
#include "pool/status.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

static double seconds(int64_t us) {
        return (double)us / USEC_PER_SEC;
}

static const char *job_error(const struct job *j) {
        return j->error ? j->error : "ok";
}

int status_lease(const struct lease *l, struct buf *out) {
        const struct job *newest = lease_newest(l), *current = lease_current(l);
        const char *environment = lease_environment(l);
        int r;

        r = buf_printf(out, "state %s\nenvironment %s\nowner %u\ncreated %.3f\nqueued %u\n",
                       lease_state_name(lease_state(l)), environment ? environment : "-", (unsigned)lease_uid(l),
                       seconds(lease_created_wall_us(l)), lease_queued(l));
        if (r == 0 && current)
                r = buf_printf(out, "running %" PRIu32 "\n", current->number);
        else if (r == 0)
                r = buf_printf(out, "running -\n");
        if (r == 0 && newest)
                r = buf_printf(out, "newest %" PRIu32 "\n", newest->number);
        else if (r == 0)
                r = buf_printf(out, "newest -\n");
        if (r == 0)
                r = buf_printf(out, "error %s\n", lease_error(l) ? lease_error(l) : "ok");
        return r;
}

int status_job(const struct job *j, struct buf *out) {
        int r;

        r = buf_printf(out, "state %s\ncommand_bytes %" PRIu64 "\nstdout_bytes %" PRIu64 "\nstderr_bytes %" PRIu64 "\n",
                       job_state_name(j->state), j->command.size, spool_size(j->spool, VIEW_STDOUT),
                       spool_size(j->spool, VIEW_STDERR));
        if (r == 0 && j->started_us)
                r = buf_printf(out, "waited %.3f\n", seconds(j->started_us - j->submitted_us));
        if (r == 0 && job_ended(j) && j->started_us)
                r = buf_printf(out, "took %.3f\n", seconds(j->ended_us - j->started_us));
        if (r == 0 && job_ended(j) && j->code == RESULT_OK)
                r = buf_printf(out, "exit_code %d\n", j->exit_code);
        if (r == 0)
                r = buf_printf(out, "error %s\n", job_error(j));
        return r;
}

/* The pool */

struct gauge {
        const char *name;
        const char *help;
        uint64_t value;
};

enum {
        N_GAUGES = 4,
        N_COUNTERS = 11,
};

static void collect_gauges(const struct pool *p, const struct leases *t, const struct config *config,
                           struct gauge gauges[N_GAUGES]) {
        gauges[0] = (struct gauge){ "leases", "Leases in the tree", leases_count(t) };
        gauges[1] = (struct gauge){ "leases_waiting", "Leases that wait for an environment",
                                    pool_count_waiting(p) };
        gauges[2] = (struct gauge){ "environments_max", "Environments at most, but for oversubscription",
                                    config->max };
        gauges[3] = (struct gauge){ "environments_min", "Environments kept ready", config->min };
}

static void collect_counters(const struct pool *p, struct gauge counters[N_COUNTERS]) {
        const struct pool_totals *n = pool_totals(p);
        const struct gauge all[N_COUNTERS] = {
                { "environments_created_total", "Environments created", n->created },
                { "environments_create_failures_total", "Creates that failed", n->create_failures },
                { "environments_destroyed_total", "Environments ended", n->destroyed },
                { "environments_destroy_failures_total", "Environments whose end could not be confirmed",
                  n->destroy_failures },
                { "environments_died_total", "Environments that died by themselves", n->died },
                { "environments_cleaned_total", "Clean-ups that were verified", n->cleaned },
                { "environments_clean_failures_total", "Clean-ups that failed; the environment was destroyed",
                  n->clean_failures },
                { "oversubscribed_total", "Environments created over max", n->oversubscribed },
                { "leases_granted_total", "Environments lent", n->granted },
                { "leases_granted_warm_total", "Environments lent without a wait", n->granted_warm },
                { "leases_wait_microseconds_total", "Time that granted leases had waited", (uint64_t)n->wait_us },
        };

        memcpy(counters, all, sizeof(all));
}

static void render_environment(void *data, const struct environment_info *info) {
        buf_printf(data, "%-24s %-10s %-24s %" PRIu64 "\n", *info->id ? info->id : "-",
                   environment_state_name(info->state), info->lease ? info->lease : "-", info->uses);
}

int status_pool(const struct pool *p, struct leases *t, const struct config *config, struct buf *out) {
        const struct result *trouble = pool_trouble(p);
        const struct lease *l;
        int r;

        r = buf_printf(out, "backend %s   leases %u (%u waiting)   environments %u of %" PRIu64 ":",
                       pool_backend(p)->ops->name, leases_count(t), pool_count_waiting(p), pool_count_all(p),
                       config->max);
        for (int i = 0; r == 0 && i < ENVIRONMENT_N_STATES; i++)
                r = buf_printf(out, " %u %s%s", pool_count(p, i), environment_state_name(i),
                               i + 1 < ENVIRONMENT_N_STATES ? "," : "\n");
        if (r == 0 && trouble)
                r = buf_printf(out, "trouble: %s\n", trouble->text);
        if (r == 0)
                r = buf_printf(out, "\n%-24s %-10s %-24s %s\n", "ENVIRONMENT", "STATE", "LEASE", "USES");
        if (r < 0)
                return r;
        pool_each_environment(p, render_environment, out);
        for (l = leases_after(t, 0); r == 0 && l; l = leases_after(t, lease_serial(l)))
                if (!lease_environment(l))
                        r = buf_printf(out, "%-24s %-10s %-24s -\n", "-", lease_state_name(lease_state(l)),
                                       lease_name(l));
        return r;
}

int status_stats(const struct pool *p, struct leases *t, const struct config *config, struct buf *out) {
        struct gauge gauges[N_GAUGES], counters[N_COUNTERS];
        _cleanup_(cleanup_free) char *text = NULL;
        const struct result *trouble = pool_trouble(p);
        json_t *root = json_object(), *states = json_object();

        collect_gauges(p, t, config, gauges);
        collect_counters(p, counters);
        json_object_set_new(root, "backend", json_string(pool_backend(p)->ops->name));
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                json_object_set_new(states, environment_state_name(i), json_integer(pool_count(p, i)));
        json_object_set_new(root, "environments", states);
        for (int i = 0; i < N_GAUGES; i++)
                json_object_set_new(root, gauges[i].name, json_integer(gauges[i].value));
        for (int i = 0; i < N_COUNTERS; i++)
                json_object_set_new(root, counters[i].name, json_integer(counters[i].value));
        json_object_set_new(root, "trouble", trouble ? json_string(trouble->text) : json_null());
        text = json_dumps(root, JSON_INDENT(2));
        json_decref(root);
        return text ? buf_printf(out, "%s\n", text) : -ENOMEM;
}

static int render_metric(const struct gauge *g, const char *type, struct buf *out) {
        return buf_printf(out, "# HELP modalpool_%s %s.\n# TYPE modalpool_%s %s\nmodalpool_%s %" PRIu64 "\n",
                          g->name, g->help, g->name, type, g->name, g->value);
}

int status_metrics(const struct pool *p, struct leases *t, const struct config *config, struct buf *out) {
        struct gauge gauges[N_GAUGES], counters[N_COUNTERS];
        int r;

        collect_gauges(p, t, config, gauges);
        collect_counters(p, counters);
        r = buf_printf(out, "# HELP modalpool_environments Environments by state.\n"
                            "# TYPE modalpool_environments gauge\n");
        for (int i = 0; r == 0 && i < ENVIRONMENT_N_STATES; i++)
                r = buf_printf(out, "modalpool_environments{state=\"%s\"} %u\n", environment_state_name(i),
                               pool_count(p, i));
        for (int i = 0; r == 0 && i < N_GAUGES; i++)
                r = render_metric(&gauges[i], "gauge", out);
        for (int i = 0; r == 0 && i < N_COUNTERS; i++)
                r = render_metric(&counters[i], "counter", out);
        return r;
}
