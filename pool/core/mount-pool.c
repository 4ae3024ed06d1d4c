/* SPDX-License-Identifier: MIT */
#include "pool/core/mount-pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/core/pools.h"
#include "pool/core/snapshot.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

/* beginning and end */

static int make_parts(struct mount_pool *p) {
        const struct core_parts *parts = p->all->parts;
        int r = event_ring_new(&p->ring, p->serial ? POOL_EVENTS_MAX : EVENTS_MAX);

        if (r == 0)
                r = pool_new(&p->pool, &(struct pool_parts){
                                               .fleet = &p->all->fleet,
                                               .serial = p->serial,
                                               .backend = p->serial ? NULL : parts->backend,
                                               .config = p->config,
                                               .ring = p->ring,
                                               .journal = parts->journal,
                                               .clock = parts->clock,
                                               .seed = parts->seed + p->serial,
                                       });
        if (r == 0 && parts->use == BACKEND_TO_CREATE)
                r = leases_new(&p->leases, &(struct leases_parts){
                                                   .registry = &p->all->registry,
                                                   .pool = p->pool,
                                                   .serial = p->serial,
                                                   .pool_name = p->name,
                                                   .config = p->config,
                                                   .ring = p->ring,
                                           });
        return r;
}

static struct mount_pool *make(struct pools *all, const char *name, uint64_t serial) {
        struct mount_pool *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->refs = 1;
        p->all = all;
        p->serial = serial;
        list_init(&p->link);
        template_init(&p->template, &all->templates);
        p->config_wall_us = clock_read_us(CLOCK_REALTIME);
        p->name = strdup(name);
        if (p->name)
                return p;
        free(p);
        return NULL;
}

int mount_pool_new_own(struct mount_pool **out, struct pools *all) {
        struct mount_pool *p = make(all, "", 0);
        int r;

        if (!p)
                return -ENOMEM;
        p->config = all->parts->config;
        p->made = true;
        p->template.state = TEMPLATE_READY;
        p->created_wall_us = p->config_wall_us;
        r = make_parts(p);
        if (r < 0)
                mount_pool_unref(p);
        else
                *out = p;
        return r;
}

static void on_started(struct template *t, const struct result *r) {
        struct mount_pool *p = container_of(t, struct mount_pool, template);

        if (result_ok(r)) {
                event_emit(p->ring, "pool", p->name, "ready", NULL, NULL);
                pool_set_backend(p->pool, t->backend);
                return;
        }
        log_warning("pool=%s: %s", p->name, r->text);
        event_emit(p->ring, "pool", p->name, "failed", NULL, r->text);
        pool_backend_failed(p->pool, r);
}

static void on_notice(struct template *t, const char *line) {
        struct mount_pool *p = container_of(t, struct mount_pool, template);

        log_debug("pool=%s: %s", p->name, line);
        event_emit(p->ring, "backend", backend_name(pool_backend(p->pool)), "notice", NULL, line);
}

/* What an earlier run has accepted may be refused by this one, if the mount's options or the program changed. */
static void restore_options(struct mount_pool *p, const char *text) {
        json_t *value;
        const char *name;
        struct result why;

        p->options = json_loads(text, 0, NULL);
        if (!json_is_object(p->options)) {
                json_decref(p->options);
                p->options = json_object();
        }
        json_object_foreach (p->options, name, value)
                if (!json_is_string(value) || config_set(p->config, name, json_string_value(value), CONFIG_CTL, &why) < 0)
                        log_error("pool=%s: its option %s in the journal is not taken: %s", p->name, name,
                                  json_is_string(value) ? why.text : "it is no text");
}

int mount_pool_new(struct mount_pool **out, struct pools *all, const struct journal_pool *row) {
        struct mount_pool *p = make(all, row->name, row->serial);
        int r = -ENOMEM;

        if (!p)
                return -ENOMEM;
        p->uid = row->uid;
        p->gid = row->gid;
        p->created_wall_us = row->created_wall_us;
        p->made = row->made;
        p->template.started = on_started;
        p->template.notice = on_notice;
        p->config = calloc(1, sizeof(*p->config));
        if (p->config)
                r = config_copy(p->config, all->parts->config);
        if (r == 0) {
                p->template.config = p->config;
                restore_options(p, row->options);
                r = p->options ? make_parts(p) : -ENOMEM;
        }
        if (r < 0)
                mount_pool_unref(p);
        else
                *out = p;
        return r;
}

struct mount_pool *mount_pool_ref(struct mount_pool *p) {
        p->refs++;
        return p;
}

void mount_pool_close(struct mount_pool *p) {
        leases_free(TAKE_PTR(p->leases));
        pool_free(TAKE_PTR(p->pool));
        template_drop(&p->template);
}

void mount_pool_unref(struct mount_pool *p) {
        if (!p || --p->refs > 0)
                return;
        mount_pool_close(p);
        list_remove(&p->link);
        event_ring_free(p->ring);
        json_decref(p->options);
        if (p->serial && p->config) {
                config_deinit(p->config);
                free(p->config);
        }
        free(p->name);
        free(p);
}

/* its snapshot */

int mount_pool_set_snapshot(struct mount_pool *p, struct snapshot *s) {
        int r = leases_set_workdir(p->leases, s->workdir);

        if (r < 0)
                return r;
        p->snapshot = s;
        if (s->state != SNAPSHOT_TAKING)
                mount_pool_snapshot_settled(p);
        return 0;
}

static void refuse(struct mount_pool *p) {
        struct result cause = result_saved(&p->snapshot->why), why;

        result_set(&why, RESULT_INVALID, "the snapshot failed: %s", cause.text);
        pool_backend_ended(p->pool, &why);
}

void mount_pool_snapshot_settled(struct mount_pool *p) {
        bool ready = p->snapshot->state == SNAPSHOT_READY;

        event_emit(p->ring, "snapshot", p->name, snapshot_state_name(p->snapshot->state), NULL,
                   ready ? NULL : result_saved(&p->snapshot->why).text);
        if (ready)
                p->template.snapshot = p->snapshot->image;
        else
                refuse(p);
}

const char *mount_pool_progress(const struct mount_pool *p) {
        if (p->snapshot && p->snapshot->state != SNAPSHOT_READY)
                return snapshot_state_name(p->snapshot->state);
        return template_state_name(p->template.state);
}

/* its row */

int mount_pool_write(struct mount_pool *p) {
        _cleanup_(cleanup_free) char *options = NULL;

        if (!p->serial)
                return 0;
        options = json_dumps(p->options, JSON_COMPACT);
        if (!options)
                return -ENOMEM;
        return journal_put_pool(p->all->parts->journal, &(struct journal_pool){
                                                                .serial = p->serial,
                                                                .name = p->name,
                                                                .uid = p->uid,
                                                                .gid = p->gid,
                                                                .created_wall_us = p->created_wall_us,
                                                                .options = options,
                                                                .made = p->made,
                                                        });
}

/* what is due */

static void note_made(struct mount_pool *p) {
        if (pool_count_all(p->pool) == 0)
                return;
        p->made = true;
        (void)mount_pool_write(p); /* else the next run lets options change once more, and no environment with them */
}

/* The pool has something to create. True: it cannot, and has to act on that. */
static bool want_template(struct mount_pool *p) {
        if (!p->snapshot || p->snapshot->state == SNAPSHOT_READY)
                template_want(&p->template);
        else if (p->snapshot->state == SNAPSHOT_FAILED)
                refuse(p);
        return p->snapshot && p->snapshot->state == SNAPSHOT_FAILED;
}

int64_t mount_pool_tick(struct mount_pool *p, int64_t now) {
        int64_t next;

        if (!p->leases)
                return pool_tick(p->pool, now);
        /* Leases first: they free environments that the pool can grant. Grants in turn set deadlines of leases. */
        leases_tick(p->leases, now);
        next = pool_tick(p->pool, now);
        if (!p->made)
                note_made(p);
        if (p->template.state != TEMPLATE_READY && pool_wants_backend(p->pool) && want_template(p))
                next = now;
        return clock_earlier(next, leases_due(p->leases));
}
