/* SPDX-License-Identifier: MIT */
#include "pool/status/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pool/lease/limits.h"
#include "pool/status/figures.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

static double seconds(int64_t us) {
        return (double)us / USEC_PER_SEC;
}

static const char *job_error(const struct job *j) {
        return j->error ? j->error : "ok";
}

struct names {
        struct buf *out;
        int r;
};

static void name_running(void *data, const struct job *j) {
        struct names *names = data;
        char number[JOB_NAME_SIZE];

        if (names->r == 0)
                names->r = buf_printf(names->out, " %s", job_name(j, number));
}

int status_lease(const struct lease *l, struct buf *out) {
        const struct job *newest = lease_newest(l);
        struct names names = { .out = out };
        const char *environment = lease_environment(l);
        int r;

        r = buf_printf(out, "state %s\nenvironment %s\nowner %u\ncreated %.3f\nqueued %u\n",
                       lease_state_name(lease_state(l)), environment ? environment : "-", (unsigned)lease_uid(l),
                       seconds(lease_created_wall_us(l)), lease_queued(l));
        if (r == 0)
                r = buf_printf(out, "running%s", lease_running(l) > 0 ? "" : " -");
        if (r == 0)
                lease_each_running(l, name_running, &names);
        r = r < 0 ? r : names.r;
        if (r == 0 && newest)
                r = buf_printf(out, "\nnewest %" PRIu32 "\n", newest->number);
        else if (r == 0)
                r = buf_printf(out, "\nnewest -\n");
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
        if (r == 0 && job_ended(j))
                r = buf_printf(out, "end %s\n", job_end_name(job_how_ended(j)));
        if (r == 0 && job_ended(j) && j->code == RESULT_OK)
                r = buf_printf(out, "exit_code %d\n", j->exit_code);
        if (r == 0)
                r = buf_printf(out, "error %s\n", job_error(j));
        return r;
}

/* The pool: tables that fit 100 columns. Ids of Modal's V2 sandboxes have 29. */

struct table {
        struct buf *out;
        int64_t now_us;
        int r;
};

/* @said in a column of so many characters. Longer text is cut and marked. */
static void column(struct table *t, const char *said, int width) {
        char text[NAME_LEN_MAX + 1];
        size_t len = 0, fits = 0;
        int n = 0;

        text_show(text, sizeof(text), said, strlen(said));

        /* Continuation bytes of UTF-8 take no column. */
        for (; text[len]; len++)
                if ((text[len] & 0xc0) != 0x80 && n++ == width - 1)
                        fits = len;
        if (t->r == 0)
                t->r = n > width ? buf_printf(t->out, "%.*s… ", (int)fits, text)
                                 : buf_printf(t->out, "%s%*s", text, width - n + 1, "");
}

/* A duration, right-aligned in a column; "-" if there is no such time. */
static void duration(struct table *t, int64_t us, bool known, const char *end) {
        char text[TEXT_DURATION_SIZE];

        if (t->r == 0)
                t->r = buf_printf(t->out, "%6s%s", known ? text_from_usec(us, text) : "-", end);
}

static void environment_row(void *data, const struct environment_info *e) {
        struct table *t = data;

        column(t, *e->id ? e->id : "-", 29);
        column(t, environment_state_name(e->state), 8);
        column(t, e->lease ? e->lease : "-", 28);
        if (t->r == 0)
                t->r = buf_printf(t->out, "%6" PRIu64 " ", e->uses);
        duration(t, t->now_us - e->created_us, true, " ");
        duration(t, t->now_us - e->since_us, true, " ");
        duration(t, e->retire_us - t->now_us, e->retire_us != USEC_NEVER, "\n");
}

static void lease_row(void *data, const struct lease_info *l) {
        struct table *t = data;
        char text[48];

        column(t, l->name, 18);
        column(t, lease_state_name(l->state), 7);
        snprintf(text, sizeof(text), "%u", (unsigned)l->uid);
        column(t, text, 10);
        duration(t, t->now_us - l->created_us, true, " ");
        duration(t, l->wait_us, true, " ");
        column(t, l->environment ? l->environment : "-", 29);
        snprintf(text, sizeof(text), "%u/%u/%" PRIu32, l->starting + l->running, l->queued, l->ended);
        column(t, text, 10);
        duration(t, t->now_us - l->unused_since_us, l->unused_since_us != USEC_NEVER, "\n");
}

static double mebibytes(uint64_t bytes) {
        return (double)bytes / (1 << 20);
}

static int render_spool(const struct status_sources *s, struct buf *out) {
        const struct config *c = s->config;
        int r = buf_printf(out, "spool         %.1f MiB", mebibytes(leases_spool_bytes(s->leases)));

        if (r == 0 && c->spool_max)
                r = buf_printf(out, " of %.1f MiB", mebibytes(c->spool_max));
        if (r == 0 && c->spool_max_per_user)
                r = buf_printf(out, ", at most %.1f MiB for each user", mebibytes(c->spool_max_per_user));
        return r < 0 ? r : buf_append(out, "\n", 1);
}

static int render_uploads(const struct backend_uploads *n, struct buf *out) {
        int r;

        if (!n || (n->done == 0 && result_ok(&n->failure)))
                return 0;
        r = buf_printf(out, "helper        in %" PRIu64 " new environments", n->done);
        if (r == 0 && n->done > 0)
                r = buf_printf(out, ", after %.3f s each", seconds(n->took_us) / (double)n->done);
        if (r == 0 && !result_ok(&n->failure))
                r = buf_printf(out, "; not in others: %s", n->failure.text);
        return r < 0 ? r : buf_append(out, "\n", 1);
}

static void render_warning(void *data, const struct backend_warning *w) {
        struct table *t = data;
        char ago[TEXT_DURATION_SIZE];

        if (t->r == 0)
                t->r = buf_printf(t->out, "warning       %s", w->text);
        if (t->r == 0 && w->n > 1)
                t->r = buf_printf(t->out, " (%" PRIu64 " times, the last %s ago)", w->n,
                                  text_from_usec(t->now_us - w->last_us, ago));
        if (t->r == 0)
                t->r = buf_append(t->out, "\n", 1);
}

static int render_counts(const struct status_sources *s, struct buf *out) {
        const struct result *trouble = pool_trouble(s->pool);
        char oldest[TEXT_DURATION_SIZE];
        struct lease_counts n;
        int r;

        lease_counts_collect(&n, s);
        r = buf_printf(out, "backend       %s\nenvironments  %u of %" PRIu64 ":", backend_name(pool_backend(s->pool)),
                       pool_count_all(s->pool), s->config->max);
        for (int i = 0; r == 0 && i < ENVIRONMENT_N_STATES; i++)
                r = buf_printf(out, "%s %u %s", i ? "," : "", pool_count(s->pool, i), environment_state_name(i));
        if (r == 0)
                r = buf_printf(out, "\nleases        %u:", leases_count(s->leases));
        for (int i = 0; r == 0 && i < LEASE_RELEASED; i++)
                r = buf_printf(out, "%s %u %s", i ? "," : "", n.in_state[i], lease_state_name(i));
        if (r == 0)
                r = buf_printf(out, "\njobs          %u queued, %u starting, %u running\n", n.jobs[JOB_QUEUED],
                               n.jobs[JOB_STARTING], n.jobs[JOB_RUNNING]);
        if (r == 0)
                r = render_uploads(backend_uploads(pool_backend(s->pool)), out);
        if (r == 0)
                r = render_spool(s, out);
        if (r == 0 && s->n_reads)
                r = buf_printf(out, "reads         %u wait, the first for %s\n", s->n_reads,
                               text_from_usec(s->now_us - s->oldest_read_us, oldest));
        if (r == 0)
                r = buf_printf(out, "loop          busy for %.3f s at most in the last minute, %.3f s ever\n",
                               seconds(lag_longest_of_minute(s->lag, s->now_us)), seconds(s->lag->longest_us));
        if (r == 0 && s->name)
                r = buf_printf(out, "template      %s\n", s->template);
        if (r == 0 && trouble)
                r = buf_printf(out, "trouble       %s\n", trouble->text);
        return r;
}

static unsigned count_all_environments(const struct status_sources *s) {
        unsigned n = pool_count_all(s->pool);

        for (unsigned i = 0; i < s->n_others; i++)
                n += pool_count_all(s->others[i].pool);
        return n;
}

/* The pools with names, if there are any. */
static void render_pools(struct table *t, const struct status_sources *s) {
        char text[24];

        if (t->r == 0 && s->config->max_total)
                t->r = buf_printf(t->out, "all pools     %u of %" PRIu64 " environments\n", count_all_environments(s),
                                  s->config->max_total);
        if (t->r == 0 && s->n_others > 0)
                t->r = buf_printf(t->out, "\n%-28s %-10s %-9s %12s %8s %8s\n", "POOL", "OWNER", "TEMPLATE", "ENVIRONMENTS",
                                  "LEASES", "WAITING");
        for (unsigned i = 0; i < s->n_others; i++) {
                const struct status_sources *o = &s->others[i];

                column(t, o->name, 28);
                snprintf(text, sizeof(text), "%u", (unsigned)o->owner);
                column(t, text, 10);
                column(t, o->template, 9);
                if (t->r == 0)
                        t->r = buf_printf(t->out, "%12u %8u %8u\n", pool_count_all(o->pool), leases_count(o->leases),
                                          pool_count_waiting(o->pool));
        }
}

int status_pool(const struct status_sources *s, struct buf *out) {
        struct table t = { .out = out, .now_us = s->now_us };

        t.r = render_counts(s, out);
        backend_client_each_warning(pool_backend(s->pool)->client, render_warning, &t);
        if (!s->name)
                render_pools(&t, s);
        if (t.r == 0)
                t.r = buf_printf(out, "\n%-29s %-8s %-28s %6s %6s %6s %6s\n", "ENVIRONMENT", "STATE", "LEASE", "USES",
                                 "AGE", "SINCE", "LEFT");
        pool_each_environment(s->pool, environment_row, &t);
        if (t.r == 0)
                t.r = buf_printf(out, "\n%-18s %-7s %-10s %6s %6s %-29s %-10s %6s\n", "LEASE", "STATE", "OWNER", "AGE",
                                 "WAIT", "ENVIRONMENT", "JOBS", "UNUSED");
        leases_each(s->leases, s->now_us, lease_row, &t);
        return t.r;
}
