/* SPDX-License-Identifier: MIT */
#include "pool/backend/local/local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/backend/local/internal.h"
#include "pool/util/cleanup.h"
#include "pool/util/uuid.h"

/* A start makes one sandbox and ends it again: only that shows whether sandboxes can be made here. */
static void trial_created(void *owner, const struct result *r) {
        struct local *l = owner;

        l->trial_result = *r;
        sandbox_destroy(l->trial);
}

static void trial_died(void *owner, const struct result *why) {
}

static void trial_cleaned(void *owner, const struct result *r, const struct sandbox_changes *changes) {
}

static void trial_destroyed(void *owner, const struct result *r) {
        struct local *l = owner;

        l->started = true;
        backend_ready(&l->backend, &l->trial_result);
}

static const struct sandbox_events trial_events = {
        .created = trial_created,
        .died = trial_died,
        .cleaned = trial_cleaned,
        .destroyed = trial_destroyed,
};

/* Without a trial, ready() still comes from the loop. */
struct local_answer {
        uv_timer_t timer;
        struct local *local;
};

static void on_answer_closed(uv_handle_t *h) {
        struct local_answer *a = h->data;

        free(a);
}

static void on_answer(uv_timer_t *timer) {
        struct local_answer *a = timer->data;
        struct local *l = a->local;

        uv_close((uv_handle_t *)&TAKE_PTR(l->answer)->timer, on_answer_closed);
        l->started = true;
        backend_ready(&l->backend, &l->trial_result);
}

static int answer(struct local *l) {
        struct local_answer *a = calloc(1, sizeof(*a));

        if (!a)
                return -ENOMEM;
        uv_timer_init(l->client->loop, &a->timer);
        a->timer.data = a;
        a->local = l;
        l->answer = a;
        return uv_timer_start(&a->timer, on_answer, 0, 0);
}

/*
 * Sandboxes of an earlier run are ended by what is known of their processes, which needs nothing. One trial does for all.
 */
static int local_start(struct backend *b, enum backend_use use) {
        struct local *l = container_of(b, struct local, backend);
        char nonce[UUID_SIZE];
        int r;

        if (use != BACKEND_TO_CREATE)
                return answer(l);
        if (l->isolate && !l->client->bwrap) {
                result_set(&l->trial_result, RESULT_INVALID,
                           "backend local: bwrap is not in PATH; install bubblewrap (apt-get install bubblewrap), "
                           "or use -o isolate=none to do without");
                return answer(l);
        }
        r = uuid_make(nonce);
        return r < 0 ? r : sandbox_create(b, nonce, &trial_events, l, &l->trial);
}

static int create(struct backend *b, const char *nonce, struct sandbox **out) {
        struct local *l = container_of(b, struct local, backend);
        int r = local_survives(l) ? local_listen(l) : 0;

        return r < 0 ? r : local_create(b, nonce, out);
}

static void local_free(struct backend *b) {
        struct local *l = container_of(b, struct local, backend);

        if (l->answer)
                uv_close((uv_handle_t *)&l->answer->timer, on_answer_closed);
        free(l->base);
        free(l->shell);
        free(l->dir);
        free(l->snapshots);
        free(l->snapshot);
        free(l);
}

static const struct backend_ops local_ops = {
        .name = "local",
        .start = local_start,
        .free = local_free,
        .create = create,
        .adopt = local_adopt,
        .leave = local_leave,
        .destroy = local_destroy,
        .attach = local_attach,
        .snapshot = local_snapshot,
        .delete_snapshot = local_delete_snapshot,
        .exec_write = local_attach_write,
        .exec_end_input = local_attach_end_input,
        .exec_hold_output = local_attach_hold_output,
        .exec_cancel = local_attach_cancel,
};

/* Finds a program as a shell does. NULL if there is none. */
static char *find_bwrap(void) {
        const char *path = getenv("PATH");
        char *program = NULL;

        for (const char *dir = path ? path : "/usr/bin:/bin"; *dir;) {
                size_t len = strcspn(dir, ":");

                if (asprintf(&program, "%.*s/bwrap", (int)len, dir) < 0)
                        return NULL;
                if (*program == '/' && access(program, X_OK) == 0)
                        return program;
                free(program);
                dir += len + (dir[len] == ':');
        }
        return NULL;
}

static void client_free(struct backend_client *client) {
        struct local_client *c = container_of(client, struct local_client, client);

        local_listen_end(c);
        free(c->helper);
        free(c->bwrap);
        free(c);
}

static const struct backend_client_ops client_ops = {
        .free = client_free,
};

int local_client_new(struct backend_client **out, uv_loop_t *loop, const char *helper) {
        struct local_client *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        c->client.ops = &client_ops;
        c->loop = loop;
        list_init(&c->awaited);
        list_init(&c->callers);
        c->helper = strdup(helper);
        c->bwrap = find_bwrap();
        if (!c->helper) {
                client_free(&c->client);
                return -ENOMEM;
        }
        *out = &c->client;
        return 0;
}

int local_new(struct backend **out, struct backend_client *client, const struct local_options *options,
              const struct backend_setup *setup, bool leaves_for_ever) {
        struct local *l = calloc(1, sizeof(*l));

        if (!l)
                return -ENOMEM;
        l->backend.ops = &local_ops;
        l->client = container_of(client, struct local_client, client);
        l->options = *options;
        l->leaves_for_ever = leaves_for_ever;
        l->isolate = options->isolate == ISOLATE_BWRAP;
        l->base = strdup(setup->base);
        l->shell = strdup(setup->shell);
        l->dir = strdup(setup->dir);
        l->snapshots = strdup(setup->snapshots ?: "");
        l->snapshot = strdup(setup->snapshot ?: "");
        if (!l->base || !l->shell || !l->dir || !l->snapshots || !l->snapshot) {
                local_free(&l->backend);
                return -ENOMEM;
        }
        backend_attach(&l->backend, client);
        *out = &l->backend;
        return 0;
}
