/* SPDX-License-Identifier: MIT */

/* The figures in Prometheus' text format 0.0.4. The lines of a family follow its HELP and TYPE. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pool/lease/limits.h"
#include "pool/status/figures.h"
#include "pool/util/clock.h"

#define DIED_BY_CAUSE "environments_died_by_cause_total"

static int render_head(const char *name, const char *help, const char *type, struct buf *out) {
        return buf_printf(out, "# HELP modalpool_%s %s.\n# TYPE modalpool_%s %s\n", name, help, name, type);
}

static int render_seconds(int64_t us, struct buf *out) {
        return buf_printf(out, " %" PRId64 ".%06" PRId64 "\n", us / USEC_PER_SEC, us % USEC_PER_SEC);
}

/* A provider's words may have any characters: escape those that would end the value of a label. */
static int render_label(const char *name, const char *value, struct buf *out) {
        int r = buf_printf(out, "%s=\"", name);

        for (const char *c = value; r == 0 && *c; c++)
                r = *c == '\n' ? buf_append(out, "\\n", 2)
                    : *c == '"' || *c == '\\' ? buf_printf(out, "\\%c", *c)
                                            : buf_append(out, c, 1);
        return r < 0 ? r : buf_append(out, "\"", 1);
}

/* The figures of one pool, and its label: pool="NAME"; "" for the mount's own. */
struct pool_figures {
        struct figures f;
        struct buf label;
};

/* Families have the lines of all pools. */
struct all_figures {
        struct pool_figures *of;
        unsigned n;
};

static int render_group(const struct all_figures *all, unsigned which, struct buf *out) {
        const struct figure_group *g = &all->of[0].f.groups[which];
        int r = render_head(g->name, g->help, g->kind == FIGURE_COUNTER ? "counter" : "gauge", out);

        for (unsigned k = 0; k < all->n; k++) {
                const char *label = buf_text(&all->of[k].label);

                g = &all->of[k].f.groups[which];
                for (unsigned i = 0; r == 0 && i < g->n; i++)
                        r = buf_printf(out, "modalpool_%s{%s%s%s=\"%s\"} %" PRIu64 "\n", g->name, label, *label ? "," : "",
                                       g->label, g->of[i].word, g->of[i].value);
        }
        return r;
}

static int render_name(const char *name, const char *part, const char *label, struct buf *out) {
        return buf_printf(out, *label ? "modalpool_%s%s{%s}" : "modalpool_%s%s", name, part, label);
}

static int render_count(uint64_t n, struct buf *out) {
        return buf_printf(out, " %" PRIu64 "\n", n);
}

static int render_value(const struct figure *f, const char *label, struct buf *out) {
        int r;

        switch (f->kind) {
        case FIGURE_GAUGE:
        case FIGURE_COUNTER:
                r = render_name(f->name, "", label, out);
                return r < 0 ? r : render_count(f->value, out);
        case FIGURE_SECONDS:
                r = render_name(f->name, "", label, out);
                return r < 0 ? r : render_seconds(f->value, out);
        case FIGURE_SUMMARY:
                r = render_name(f->name, "_sum", label, out);
                if (r == 0)
                        r = render_seconds(f->value, out);
                if (r == 0)
                        r = render_name(f->name, "_count", label, out);
                return r < 0 ? r : render_count(f->count, out);
        }
        return 0;
}

static int render_figure(const struct all_figures *all, unsigned which, struct buf *out) {
        static const char *const types[] = {
                [FIGURE_GAUGE] = "gauge",
                [FIGURE_COUNTER] = "counter",
                [FIGURE_SECONDS] = "gauge",
                [FIGURE_SUMMARY] = "summary",
        };
        const struct figure *f = &all->of[0].f.all[which];
        int r = render_head(f->name, f->help, types[f->kind], out);

        for (unsigned k = 0; r == 0 && k < all->n; k++)
                if (k == 0 || !f->of_mount)
                        r = render_value(&all->of[k].f.all[which], buf_text(&all->of[k].label), out);
        return r;
}

/* Calls to the provider: a family for each figure. */
struct calls {
        struct buf *out;
        const char *name;
        enum { CALLS_N, CALLS_SECONDS, CALLS_RETRIES } what;
        int r;
};

static void render_call(void *data, const struct backend_calls *n) {
        struct calls *c = data;

        if (c->r == 0)
                c->r = buf_printf(c->out, "modalpool_%s{", c->name);
        if (c->r == 0)
                c->r = render_label("method", n->method, c->out);
        if (c->r == 0)
                c->r = buf_append(c->out, ",", 1);
        if (c->r == 0)
                c->r = render_label("status", n->status, c->out);
        if (c->r == 0)
                c->r = buf_append(c->out, "}", 1);
        if (c->r < 0)
                return;
        if (c->what == CALLS_SECONDS)
                c->r = render_seconds(n->took_us, c->out);
        else
                c->r = buf_printf(c->out, " %" PRIu64 "\n", c->what == CALLS_N ? n->n : n->retries);
}

static int render_calls(const struct backend_client *client, struct buf *out) {
        static const struct {
                const char *name, *help;
        } families[] = {
                [CALLS_N] = { "calls_total", "Calls to the provider that have ended, by how the last try did" },
                [CALLS_SECONDS] = { "calls_seconds_total", "Time from the first try to the end" },
                [CALLS_RETRIES] = { "calls_retries_total", "Tries after the first" },
        };
        int r = 0;

        for (unsigned i = 0; r == 0 && i < sizeof(families) / sizeof(families[0]); i++) {
                struct calls c = { .out = out, .name = families[i].name, .what = i };

                c.r = render_head(families[i].name, families[i].help, "counter", out);
                backend_client_each_call(client, render_call, &c);
                r = c.r;
        }
        return r;
}

/* Ends of environments, as the provider explains them. */
struct ends {
        struct buf *out;
        int r;
};

static void render_end(void *data, const struct backend_ends *n) {
        struct ends *e = data;

        if (e->r == 0)
                e->r = buf_printf(e->out, "modalpool_" DIED_BY_CAUSE "{");
        if (e->r == 0)
                e->r = render_label("cause", n->cause, e->out);
        if (e->r == 0)
                e->r = buf_printf(e->out, ",exit_code=\"%d\"} %" PRIu64 "\n", n->exit_code, n->n);
}

static int render_ends(const struct backend_client *client, struct buf *out) {
        struct ends e = { .out = out };

        e.r = render_head(DIED_BY_CAUSE, "Environments that died, by what the provider says of it", "counter", out);
        backend_client_each_end(client, render_end, &e);
        return e.r;
}

static int collect(struct pool_figures *of, const struct status_sources *s) {
        figures_collect(&of->f, s);
        of->label = (struct buf)BUF_INIT(8 * NAME_LEN_MAX);
        return s->name ? render_label("pool", s->name, &of->label) : 0;
}

static int render_all(const struct all_figures *all, bool of_mount, struct buf *out) {
        const struct figures *f = &all->of[0].f;
        int r = 0;

        for (unsigned i = 0; r == 0 && i < f->n_groups; i++)
                r = render_group(all, i, out);
        for (unsigned i = 0; r == 0 && i < f->n; i++)
                if (of_mount || !f->all[i].of_mount)
                        r = render_figure(all, i, out);
        return r;
}

int status_metrics(const struct status_sources *s, struct buf *out) {
        struct all_figures all = { .of = calloc(1 + s->n_others, sizeof(*all.of)) };
        int r = all.of ? 0 : -ENOMEM;

        for (; r == 0 && all.n < 1 + s->n_others; all.n++)
                r = collect(&all.of[all.n], all.n == 0 ? s : &s->others[all.n - 1]);
        if (r == 0)
                r = render_all(&all, !s->name, out);
        for (unsigned k = 0; k < all.n; k++)
                buf_deinit(&all.of[k].label);
        free(all.of);
        if (r == 0 && !s->name)
                r = render_ends(pool_backend(s->pool)->client, out);
        return r < 0 || s->name ? r : render_calls(pool_backend(s->pool)->client, out);
}
