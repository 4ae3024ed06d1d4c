/* SPDX-License-Identifier: MIT */
#include "sim-template.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim-internal.h"

static struct sim_template *template_of(struct backend *b) {
        return container_of(b, struct sim_template, backend);
}

static void on_started(struct timer *timer) {
        struct sim_template *t = container_of(timer, struct sim_template, started);
        struct result r = {};

        t->starting = false;
        t->all->n_starting--;
        if (t->all->refused)
                result_set(&r, RESULT_INVALID, "image none cannot be built: there is none");
        sim_trace("a template has started: %s", result_code_name(r.code));
        backend_ready(&t->backend, &r);
}

static int op_start(struct backend *b, enum backend_use use) {
        struct sim_template *t = template_of(b);

        SIM_CHECK(use == BACKEND_TO_JOIN, "a template is started for something else");
        t->starting = true;
        if (++t->all->n_starting > t->all->n_starting_most)
                t->all->n_starting_most = t->all->n_starting;
        timer_arm(&t->started, sim_any_delay(t->all->provider), on_started);
        return 0;
}

static void op_free(struct backend *b) {
        struct sim_template *t = template_of(b);

        if (t->starting)
                t->all->n_starting--;
        timer_cancel(&t->started);
        list_remove(&t->link);
        free(t);
}

static int op_create(struct backend *b, const char *nonce, struct sandbox **out) {
        struct sim_template *t = template_of(b);
        int r;

        SIM_CHECK(!*t->snapshot || sim_has_snapshot(t->all->provider, t->snapshot), "a sandbox is made from snapshot %s, which is not there",
                  t->snapshot);
        r = sim_backend_ops.create(&t->all->provider->backend, nonce, out);
        if (r == 0 && *t->snapshot)
                container_of(*out, struct sim_sandbox, sandbox)->workdir_made = true; /* it is in there */
        return r;
}

void sim_templates_init(struct sim_templates *all, struct sim_backend *provider) {
        *all = (struct sim_templates){ .provider = provider };
        list_init(&all->list);
}

int sim_template_open(void *owner, const struct config *config, const char *snapshot, struct backend **out,
                      struct result *why) {
        static struct backend_ops ops;
        struct sim_templates *all = owner;
        struct sim_template *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        ops = sim_backend_ops;
        ops.start = op_start;
        ops.free = op_free;
        ops.create = op_create;
        ops.adopt = NULL; /* the mount's own backend does that, */
        ops.list = NULL;  /* and lists */
        t->all = all;
        snprintf(t->snapshot, sizeof(t->snapshot), "%s", snapshot);
        t->backend.ops = &ops;
        list_init(&t->link);
        list_add_tail(&all->list, &t->link);
        backend_attach(&t->backend, &all->provider->client);
        all->n_made++;
        *out = &t->backend;
        return 0;
}
