/* SPDX-License-Identifier: MIT */

/* The figures as JSON. Environments and leases are printed one by one, because there may be many. */

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/status/figures.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

static json_t *seconds(int64_t us) {
        return json_real((double)us / USEC_PER_SEC);
}

static void add_figure(json_t *root, const struct figure *f) {
        char name[64];

        switch (f->kind) {
        case FIGURE_GAUGE:
        case FIGURE_COUNTER:
                json_object_set_new(root, f->name, json_integer(f->value));
                return;
        case FIGURE_SECONDS:
                json_object_set_new(root, f->name, seconds(f->value));
                return;
        case FIGURE_SUMMARY:
                snprintf(name, sizeof(name), "%s_sum", f->name);
                json_object_set_new(root, name, seconds(f->value));
                snprintf(name, sizeof(name), "%s_count", f->name);
                json_object_set_new(root, name, json_integer(f->count));
                return;
        }
}

static void add_call(void *data, const struct backend_calls *n) {
        json_array_append_new(data, json_pack("{s:s, s:s, s:I, s:I, s:o}", "method", n->method, "status", n->status,
                                              "count", (json_int_t)n->n, "retries", (json_int_t)n->retries, "seconds",
                                              seconds(n->took_us)));
}

static void add_end(void *data, const struct backend_ends *n) {
        json_array_append_new(data, json_pack("{s:s, s:i, s:I}", "cause", n->cause, "exit_code", n->exit_code, "count",
                                              (json_int_t)n->n));
}

/* Those of a pool, and when it is now. */
struct warnings {
        json_t *list;
        int64_t now_us;
};

static void add_warning(void *data, const struct backend_warning *w) {
        const struct warnings *all = data;

        json_array_append_new(all->list, json_pack("{s:s, s:I, s:o}", "text", w->text, "count", (json_int_t)w->n,
                                                   "last_seconds", seconds(all->now_us - w->last_us)));
}

/* The pools with names. */
static json_t *make_pools(const struct status_sources *s) {
        json_t *pools = json_array();

        for (unsigned i = 0; i < s->n_others; i++) {
                const struct status_sources *o = &s->others[i];
                const struct result *trouble = pool_trouble(o->pool);

                json_array_append_new(pools, json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:s?}", "name", o->name, "owner",
                                                       (json_int_t)o->owner, "template", o->template, "environments",
                                                       (json_int_t)pool_count_all(o->pool), "leases",
                                                       (json_int_t)leases_count(o->leases), "waiting",
                                                       (json_int_t)pool_count_waiting(o->pool), "trouble",
                                                       trouble ? trouble->text : NULL));
        }
        return pools;
}

static json_t *make_root(const struct status_sources *s) {
        const struct result *trouble = pool_trouble(s->pool);
        json_t *root = json_object(), *calls = json_array(), *ends = json_array(), *group;
        struct warnings warnings = { json_array(), s->now_us };
        struct figures f;

        figures_collect(&f, s);
        json_object_set_new(root, "backend", json_string(backend_name(pool_backend(s->pool))));
        json_object_set_new(root, "trouble", trouble ? json_string(trouble->text) : json_null());
        backend_client_each_warning(pool_backend(s->pool)->client, add_warning, &warnings);
        json_object_set_new(root, "warnings", warnings.list);
        json_object_set_new(root, "leases", json_integer(leases_count(s->leases)));
        for (unsigned i = 0; i < f.n_groups; i++) {
                group = json_object();
                for (unsigned k = 0; k < f.groups[i].n; k++)
                        json_object_set_new(group, f.groups[i].of[k].word, json_integer(f.groups[i].of[k].value));
                json_object_set_new(root, f.groups[i].key, group);
        }
        for (unsigned i = 0; i < f.n; i++)
                add_figure(root, &f.all[i]);
        backend_client_each_end(pool_backend(s->pool)->client, add_end, ends);
        json_object_set_new(root, "environments_died_by_cause", ends);
        backend_client_each_call(pool_backend(s->pool)->client, add_call, calls);
        json_object_set_new(root, "calls", calls);
        if (!s->name)
                json_object_set_new(root, "pools", make_pools(s));
        return root;
}

/*
 * An array that is being printed, one line for each element. It is printed directly, because building a tree takes
 * long.
 */
struct rows {
        struct buf *out;
        int64_t now_us;
        unsigned n;
        int r;
};

/* @text as a JSON string, which the caller frees; "null" for NULL, and for what JSON cannot hold. */
static char *quote(const char *text) {
        json_t *string = text ? json_string(text) : NULL;
        char *quoted = json_dumps(string ?: json_null(), JSON_ENCODE_ANY);

        json_decref(string);
        return quoted;
}

/* Seconds, or null when there is no such time. */
static const char *seconds_or_null(int64_t us, bool known, char out[static 32]) {
        if (known)
                snprintf(out, 32, "%.6f", (double)us / USEC_PER_SEC);
        return known ? out : "null";
}

static void add_environment(void *data, const struct environment_info *e) {
        _cleanup_(cleanup_free) char *id = quote(e->id), *lease = quote(e->lease);
        struct rows *rows = data;
        char left[32];

        if (rows->r < 0)
                return;
        rows->r = !id || !lease ? -ENOMEM
                                : buf_printf(rows->out,
                                             "%s\n    {\"id\":%s,\"state\":\"%s\",\"lease\":%s,\"uses\":%" PRIu64
                                             ",\"age_seconds\":%.6f,\"state_seconds\":%.6f,\"left_seconds\":%s}",
                                             rows->n++ ? "," : "", id, environment_state_name(e->state), lease, e->uses,
                                             (double)(rows->now_us - e->created_us) / USEC_PER_SEC,
                                             (double)(rows->now_us - e->since_us) / USEC_PER_SEC,
                                             seconds_or_null(e->retire_us - rows->now_us, e->retire_us != USEC_NEVER,
                                                             left));
}

static void add_lease(void *data, const struct lease_info *l) {
        _cleanup_(cleanup_free) char *name = quote(l->name), *environment = quote(l->environment);
        struct rows *rows = data;
        char unused[32], running[16] = "null";

        if (rows->r < 0)
                return;
        if (l->current)
                snprintf(running, sizeof(running), "%" PRIu32, l->current->number);
        rows->r = !name || !environment
                          ? -ENOMEM
                          : buf_printf(rows->out,
                                       "%s\n    {\"name\":%s,\"state\":\"%s\",\"owner\":%u,\"age_seconds\":%.6f,"
                                       "\"wait_seconds\":%.6f,\"environment\":%s,\"running\":%s,\"queued\":%u,"
                                       "\"ended\":%" PRIu32 ",\"unused_seconds\":%s}",
                                       rows->n++ ? "," : "", name, lease_state_name(l->state), (unsigned)l->uid,
                                       (double)(rows->now_us - l->created_us) / USEC_PER_SEC,
                                       (double)l->wait_us / USEC_PER_SEC, environment, running, l->queued, l->ended,
                                       seconds_or_null(rows->now_us - l->unused_since_us,
                                                       l->unused_since_us != USEC_NEVER, unused));
}

int status_stats(const struct status_sources *s, struct buf *out) {
        json_t *root = make_root(s);
        _cleanup_(cleanup_free) char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        struct rows rows = { .out = out, .now_us = s->now_us };

        json_decref(root);
        if (!text)
                return -ENOMEM;
        text[strlen(text) - 2] = '\0'; /* the newline and brace at the end: two more keys follow */
        rows.r = buf_printf(out, "%s,\n  \"environment_list\": [", text);
        pool_each_environment(s->pool, add_environment, &rows);
        if (rows.r == 0)
                rows.r = buf_printf(out, "],\n  \"lease_list\": [");
        rows.n = 0;
        leases_each(s->leases, s->now_us, add_lease, &rows);
        return rows.r < 0 ? rows.r : buf_printf(out, "]\n}\n");
}
