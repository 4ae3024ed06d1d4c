/* SPDX-License-Identifier: MIT */

/*
 * What the provider has of snapshots. The same id twice gives one; the answer may be lost, and with it the name. A sandbox
 * that is made from one which is not there breaks the contract.
 */

#include "sim-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim_snapshot {
        struct list link;
        char id[UUID_SIZE], image[SNAPSHOT_IMAGE_MAX];
        bool heard; /* a core was told its name */
};

struct sim_deletion {
        struct list link;
        struct timer timer;
        struct sim_backend *provider;
        struct snapshot_deletion *call;
        char image[SNAPSHOT_IMAGE_MAX];
};

static struct sim_snapshot *find(const struct sim_backend *b, const char *image) {
        struct sim_snapshot *s;

        list_for_each (s, &b->snapshots, link)
                if (!strcmp(s->image, image))
                        return s;
        return NULL;
}

static struct sim_snapshot *get_or_make(struct sim_backend *b, const char *id) {
        struct sim_snapshot *s;

        list_for_each (s, &b->snapshots, link)
                if (!strcmp(s->id, id))
                        return s;
        s = calloc(1, sizeof(*s));
        SIM_CHECK(s, "out of memory");
        list_init(&s->link);
        snprintf(s->id, sizeof(s->id), "%s", id);
        snprintf(s->image, sizeof(s->image), "im-%u", ++b->last_snapshot);
        list_add_tail(&b->snapshots, &s->link);
        return s;
}

unsigned sim_snapshots_heard(const struct sim_backend *b) {
        const struct sim_snapshot *s;
        unsigned n = 0;

        list_for_each (s, &b->snapshots, link)
                n += s->heard;
        return n;
}

unsigned sim_snapshots_count(const struct sim_backend *b) {
        const struct sim_snapshot *s;
        unsigned n = 0;

        list_for_each (s, &b->snapshots, link)
                n++;
        return n;
}

static void on_snapshotted(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, snapshotted);
        struct sim_backend *b = sim_backend_of(s);
        struct sim_snapshot *snapshot = NULL;
        struct result r = {};

        if (sim_chance(b->rates.snapshot_fails))
                result_set(&r, RESULT_FAILED, "snapshot: the disk is full");
        else
                snapshot = get_or_make(b, s->snapshot_id);
        if (snapshot && s->sandbox.snapshot)
                snapshot->heard = true;
        sim_trace("%s snapshotted: %s", s->sandbox.id, snapshot ? snapshot->image : r.text);
        sandbox_snapshotted(&s->sandbox, &r, snapshot ? snapshot->image : NULL);
}

int sim_snapshot(struct sandbox *sandbox, const char *id) {
        struct sim_sandbox *s = container_of(sandbox, struct sim_sandbox, sandbox);

        snprintf(s->snapshot_id, sizeof(s->snapshot_id), "%s", id);
        timer_arm(&s->snapshotted, sim_any_delay(sim_backend_of(s)), on_snapshotted);
        sim_backend_of(s)->totals.snapshots++;
        sim_trace("%s snapshot %s", sandbox->id, id);
        return 0;
}

bool sim_has_snapshot(const struct sim_backend *b, const char *image) {
        return find(b, image);
}

void sim_snapshot_core_ends(struct sim_sandbox *s) {
        if (!s->snapshotted.place)
                return;
        timer_cancel(&s->snapshotted);
        if (sim_chance(500))
                (void)get_or_make(sim_backend_of(s), s->snapshot_id);
}

static void on_deleted(struct timer *t) {
        struct sim_deletion *d = container_of(t, struct sim_deletion, timer);
        struct sim_snapshot *s = find(d->provider, d->image);
        struct result r = {};

        if (sim_chance(d->provider->rates.delete_snapshot_fails))
                result_set(&r, RESULT_FAILED, "snapshot: not deleted");
        if (result_ok(&r) && s) {
                list_remove(&s->link);
                free(s);
        }
        sim_trace("snapshot %s deleted: %s", d->image, result_code_name(r.code));
        list_remove(&d->link);
        d->call->done(d->call, &r);
        free(d);
}

int sim_delete_snapshot(struct backend *backend, const char *id, const char *image, struct snapshot_deletion *call) {
        struct sim_deletion *d;

        if (!*image)
                return -ENOENT;
        d = calloc(1, sizeof(*d));
        if (!d)
                return -ENOMEM;
        d->provider = container_of(backend, struct sim_backend, backend); /* the mount's own asks for it */
        d->call = call;
        snprintf(d->image, sizeof(d->image), "%s", image);
        list_init(&d->link);
        list_add_tail(&d->provider->deletions, &d->link);
        timer_arm(&d->timer, sim_any_delay(d->provider), on_deleted);
        return 0;
}

void sim_deletions_core_ends(struct sim_backend *b) {
        struct sim_deletion *d;

        while ((d = list_first(&b->deletions, struct sim_deletion, link))) {
                struct sim_snapshot *s = find(b, d->image);

                if (s && sim_chance(500)) {
                        list_remove(&s->link);
                        free(s);
                }
                timer_cancel(&d->timer);
                list_remove(&d->link);
                free(d);
        }
}

void sim_snapshots_forget(struct sim_backend *b) {
        struct sim_snapshot *s, *tmp;

        list_for_each_safe (s, tmp, &b->snapshots, link) {
                list_remove(&s->link);
                free(s);
        }
}
