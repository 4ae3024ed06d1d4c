/* SPDX-License-Identifier: MIT */
#include "pool/core/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/log.h"

static const char *const state_names[] = {
        [SNAPSHOT_TAKING] = "taking",
        [SNAPSHOT_READY] = "ready",
        [SNAPSHOT_FAILED] = "failed",
        [SNAPSHOT_DELETING] = "deleting",
};

static const uint32_t next_states[SNAPSHOT_N_STATES] = {
        [SNAPSHOT_TAKING] = TRANSITION_TO(SNAPSHOT_READY) | TRANSITION_TO(SNAPSHOT_FAILED),
        [SNAPSHOT_READY] = TRANSITION_TO(SNAPSHOT_DELETING),
        [SNAPSHOT_FAILED] = TRANSITION_TO(SNAPSHOT_DELETING),
};

const struct transitions snapshot_transitions = {
        .what = "snapshot",
        .key = "snapshot",
        .n = SNAPSHOT_N_STATES,
        .names = state_names,
        .to = next_states,
};

const char *snapshot_state_name(enum snapshot_state state) {
        return state_names[state];
}

/* its row */

static int write_row(const struct snapshot *s) {
        return journal_put_snapshot(s->all->parts->journal, &(struct journal_snapshot){
                                                                    .id = s->id,
                                                                    .pool = s->pool,
                                                                    .environment = s->environment,
                                                                    .image = s->image,
                                                                    .workdir = s->workdir,
                                                                    .state = s->state,
                                                                    .code = s->why.code,
                                                                    .error = s->why.text,
                                                            });
}

int snapshots_write(const struct snapshots *all) {
        const struct snapshot *s;
        int r = 0;

        list_for_each (s, &all->list, link)
                if (r == 0)
                        r = write_row(s);
        return r;
}

/* beginning and end */

static void on_taken(struct environment_snapshot *request, const struct result *r, const char *image);
static void on_deleted(struct snapshot_deletion *d, const struct result *r);

static struct snapshot *snapshot_new(struct snapshots *all, const char *id, const char *environment, const char *workdir,
                                     uint64_t pool) {
        struct snapshot *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        s->workdir = strdup(workdir);
        if (!s->workdir) {
                free(s);
                return NULL;
        }
        s->all = all;
        s->pool = pool;
        s->request.done = on_taken;
        s->deletion.done = on_deleted;
        s->request.id = s->id;
        snprintf(s->id, sizeof(s->id), "%s", id);
        snprintf(s->environment, sizeof(s->environment), "%s", environment);
        list_add_tail(&all->list, &s->link);
        all->n++;
        return s;
}

static void snapshot_free(struct snapshot *s) {
        list_remove(&s->link);
        s->all->n--;
        result_drop(&s->why);
        free(s->workdir);
        free(s);
}

void snapshots_init(struct snapshots *all, const struct core_parts *parts) {
        all->parts = parts;
        list_init(&all->list);
}

void snapshots_deinit(struct snapshots *all) {
        struct snapshot *s, *tmp;

        list_for_each_safe (s, tmp, &all->list, link)
                snapshot_free(s);
}

/* states */

/* The one setter. If this is not written, the next run finds the state before, and does what follows from that again. */
static void set_state(struct snapshot *s, enum snapshot_state state) {
        if (!transition_check(&snapshot_transitions, s->id, s->state, state))
                return;
        s->state = state;
        log_info("snapshot=%s: %s", s->id, state_names[state]);
        (void)write_row(s);
}

static void gone(struct snapshot *s) {
        (void)journal_drop_snapshot(s->all->parts->journal, s->id);
        snapshot_free(s);
}

/* The row stays, so that the next run tries once more. */
static void on_deleted(struct snapshot_deletion *d, const struct result *r) {
        struct snapshot *s = container_of(d, struct snapshot, deletion);

        if (result_ok(r)) {
                gone(s);
                return;
        }
        log_warning("snapshot=%s: not deleted; it ends by its own time limit: %s", s->id, r->text);
        snapshot_free(s);
}

static void delete(struct snapshot *s) {
        struct result why;
        int r;

        set_state(s, SNAPSHOT_DELETING);
        r = backend_delete_snapshot(s->all->parts->backend, s->id, s->image, &s->deletion);
        if (r == -ENOENT) {
                gone(s);
        } else if (r < 0) {
                result_set(&why, RESULT_FAILED, "%s", strerror(-r));
                on_deleted(&s->deletion, &why);
        }
}

static void settle(struct snapshot *s) {
        if (s->pool)
                s->all->settled(s->all->owner, s);
        else
                delete(s);
}

static void fail(struct snapshot *s, const struct result *why) {
        log_warning("snapshot=%s: failed; if the provider has any of it, that ends by its own time limit: %s", s->id, why->text);
        result_save(&s->why, why);
        set_state(s, SNAPSHOT_FAILED);
}

static void on_taken(struct environment_snapshot *request, const struct result *r, const char *image) {
        struct snapshot *s = container_of(request, struct snapshot, request);

        if (s->all->keeps)
                return; /* the next run asks for it again */
        if (result_ok(r)) {
                snprintf(s->image, sizeof(s->image), "%s", image);
                set_state(s, SNAPSHOT_READY);
        } else {
                fail(s, r);
        }
        settle(s);
}

void snapshot_drop(struct snapshot *s) {
        s->pool = 0;
        if (s->state != SNAPSHOT_TAKING)
                delete(s);
        else
                (void)write_row(s);
}

/* taking */

int snapshots_take(struct snapshots *all, struct environment *e, const char *workdir, uint64_t pool,
                   struct snapshot **out) {
        struct snapshot *s;
        char id[UUID_SIZE];
        int r = all->n < POOLS_MAX ? uuid_make(id) : -EAGAIN;

        if (r < 0)
                return r;
        s = snapshot_new(all, id, environment_nonce(e), workdir, pool);
        if (!s)
                return -ENOMEM;
        r = write_row(s); /* before anybody may hear of it */
        if (r == 0) {
                r = environment_snapshot_start(&s->request, e);
                if (r < 0)
                        (void)journal_drop_snapshot(all->parts->journal, s->id);
        }
        if (r < 0)
                snapshot_free(s);
        else
                *out = s;
        return r;
}

bool snapshots_are_settled(const struct snapshots *all) {
        const struct snapshot *s;

        list_for_each (s, &all->list, link)
                if (s->state == SNAPSHOT_DELETING || s->request.environment)
                        return false;
        return true;
}

/* after a restart */

/* One that was being deleted is as it was before that, without a pool. */
static enum snapshot_state read_state(struct snapshot *s, int state) {
        if (state == SNAPSHOT_TAKING)
                return SNAPSHOT_TAKING;
        if (state == SNAPSHOT_DELETING)
                s->pool = 0;
        return state != SNAPSHOT_FAILED && *s->image ? SNAPSHOT_READY : SNAPSHOT_FAILED;
}

static int read_row(void *data, const struct journal_snapshot *row) {
        struct snapshots *all = data;
        struct snapshot *s = snapshot_new(all, row->id, row->environment, row->workdir, row->pool);
        struct result why;

        if (!s)
                return -ENOMEM;
        snprintf(s->image, sizeof(s->image), "%s", row->image);
        s->state = read_state(s, row->state);
        if (s->state != SNAPSHOT_FAILED)
                return 0;
        result_set(&why, RESULT_FAILED, "%s", row->error ?: "it was being deleted, or its record is damaged");
        result_save(&s->why, &why);
        return 0;
}

/* It was being taken. */
static void ask_again(struct snapshot *s, const struct fleet *fleet) {
        struct environment *e = environments_find(fleet, s->environment);
        struct result why;

        if (e && environment_snapshot_start(&s->request, e) == 0)
                return;
        result_set(&why, RESULT_LOST, "its environment ended before the daemon could ask for it again");
        fail(s, &why);
}

int snapshots_restore(struct snapshots *all, const struct fleet *fleet) {
        int r = journal_each_snapshot(all->parts->journal, read_row, all);
        struct snapshot *s;

        if (r < 0)
                return r;
        list_for_each (s, &all->list, link)
                if (s->state == SNAPSHOT_TAKING)
                        ask_again(s, fleet);
        return 0;
}
