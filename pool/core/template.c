/* SPDX-License-Identifier: MIT */
#include "pool/core/template.h"

#include "pool/util/cleanup.h"

static const char *const state_names[] = {
        [TEMPLATE_NONE] = "none",         [TEMPLATE_QUEUED] = "queued", [TEMPLATE_STARTING] = "starting",
        [TEMPLATE_READY] = "ready",       [TEMPLATE_FAILED] = "failed",
};

const char *template_state_name(enum template_state state) {
        return state_names[state];
}

void templates_init(struct templates *all, const struct core_parts *parts) {
        *all = (struct templates){ .parts = parts };
        list_init(&all->queue);
}

void template_init(struct template *t, struct templates *all) {
        t->all = all;
        t->snapshot = "";
        list_init(&t->link);
}

static void on_ready(void *owner, const struct result *r) {
        struct template *t = owner;

        if (t->state != TEMPLATE_STARTING)
                return;
        t->all->n_starting--;
        t->state = result_ok(r) ? TEMPLATE_READY : TEMPLATE_FAILED;
        t->started(t, r);
}

static void on_notice(void *owner, const char *line) {
        struct template *t = owner;

        t->notice(t, line);
}

/* The mount's own backend lists the sandboxes of all pools. */
static void on_found(void *owner, const struct sandbox_found *found) {
}

static void on_listed(void *owner, const struct result *r) {
}

static const struct backend_events events = {
        .ready = on_ready,
        .notice = on_notice,
        .found = on_found,
        .listed = on_listed,
};

void template_want(struct template *t) {
        if (t->state != TEMPLATE_NONE && t->state != TEMPLATE_FAILED)
                return;
        template_drop(t);
        t->state = TEMPLATE_QUEUED;
        list_add_tail(&t->all->queue, &t->link);
}

void template_drop(struct template *t) {
        list_remove(&t->link);
        if (t->state == TEMPLATE_STARTING)
                t->all->n_starting--;
        t->state = TEMPLATE_NONE;
        backend_free(TAKE_PTR(t->backend));
}

static bool start(struct template *t) {
        const struct core_parts *parts = t->all->parts;
        struct result why;
        int r;

        list_remove(&t->link);
        result_set(&why, RESULT_FAILED, "out of memory");
        r = parts->open(parts->owner, t->config, t->snapshot, &t->backend, &why);
        if (r == 0)
                r = backend_start(t->backend, BACKEND_TO_JOIN, &events, t);
        if (r == 0) {
                t->state = TEMPLATE_STARTING;
                t->all->n_starting++;
                return true;
        }
        t->state = TEMPLATE_FAILED;
        t->started(t, &why);
        return false;
}

bool templates_tick(struct templates *all) {
        bool failed = false;
        struct template *t;

        while (all->n_starting < all->parts->config->builds && (t = list_first(&all->queue, struct template, link)))
                failed |= !start(t);
        return failed;
}
