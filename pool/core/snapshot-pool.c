/* SPDX-License-Identifier: MIT */
#include "pool/core/snapshot-pool.h"

#include <errno.h>
#include <stdlib.h>

#include "pool/core/pool-table.h"
#include "pool/util/log.h"

static void on_settled(void *owner, struct snapshot *s) {
        struct mount_pool *p = pools_find_serial(owner, s->pool);

        if (p)
                mount_pool_snapshot_settled(p);
}

void pools_init_snapshots(struct pools *all) {
        snapshots_init(&all->snapshots, all->parts);
        all->snapshots.settled = on_settled;
        all->snapshots.owner = all;
}

/* Those of the pool that it is taken in; but each environment is used once. */
static json_t *snapshot_options(const struct mount_pool *origin) {
        json_t *options = json_object(), *of_file = json_object_get(origin->all->parts->config->pools, origin->name);
        int r = options ? 0 : -1;

        if (r == 0 && of_file)
                r = json_object_update(options, of_file);
        if (r == 0 && origin->options)
                r = json_object_update(options, origin->options);
        if (r == 0)
                r = json_object_set_new(options, "reset", json_string("environment"));
        if (r == 0) {
                (void)json_object_del(options, "image");
                return options;
        }
        json_decref(options);
        return NULL;
}

static int make_for_snapshot(struct mount_pool *origin, const struct lease_snapshot *what, struct mount_pool **out) {
        json_t *options = snapshot_options(origin);
        char *text = options ? json_dumps(options, JSON_COMPACT) : NULL;
        int r = text ? pools_make_with(origin->all, what->name, what->uid, what->gid, text, out) : -ENOMEM;

        free(text);
        json_decref(options);
        return r;
}

/*
 * The provider is asked first, since it alone can tell whether this environment can be copied. If the pool cannot be made
 * then, or the daemon is killed in between, the snapshot has none and is deleted.
 */
int pools_take_snapshot(void *owner, const struct lease_snapshot *what) {
        struct pools *all = owner;
        struct mount_pool *origin = pools_find_serial(all, what->pool), *p;
        struct snapshot *s;
        int r = pools_check_new(all, what->name);

        if (r == 0)
                r = snapshots_take(&all->snapshots, what->environment, what->workdir, all->registry.last_serial + 1, &s);
        if (r < 0)
                return r;
        r = make_for_snapshot(origin, what, &p);
        if (r == 0)
                r = mount_pool_set_snapshot(p, s);
        if (r < 0) {
                snapshot_drop(s);
                return r;
        }
        log_info("pool=%s lease=%s snapshot=%s: taking", p->name, what->lease, s->id);
        event_emit(all->own->ring, "snapshot", p->name, "taking", what->lease, NULL);
        return 0;
}

void mount_pool_drop_snapshot(struct mount_pool *p) {
        struct snapshot *s = p->snapshot;

        p->snapshot = NULL;
        p->template.snapshot = "";
        if (s)
                snapshot_drop(s);
}

/* One without a pool was to be deleted, or its pool was never made. */
int pools_restore_snapshots(struct pools *all) {
        int r = snapshots_restore(&all->snapshots, &all->fleet);
        struct snapshot *s, *tmp;

        if (r < 0)
                return r;
        list_for_each_safe (s, tmp, &all->snapshots.list, link) {
                struct mount_pool *p = s->pool ? pools_find_serial(all, s->pool) : NULL;

                if (p && !p->snapshot)
                        r = mount_pool_set_snapshot(p, s);
                else
                        snapshot_drop(s);
                if (r < 0)
                        return r;
        }
        return 0;
}
