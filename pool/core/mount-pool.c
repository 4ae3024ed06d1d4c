/* SPDX-License-Identifier: MIT */
#include "pool/core/mount-pool.h"

#include <errno.h>
#include <stdlib.h>

#include "pool/core/pools.h"

static int make_parts(struct mount_pool *p) {
        const struct core_parts *parts = p->all->parts;
        int r = event_ring_new(&p->ring);

        if (r == 0)
                r = pool_new(&p->pool, &(struct pool_parts){
                                               .fleet = &p->all->fleet,
                                               .backend = parts->backend,
                                               .config = p->config,
                                               .ring = p->ring,
                                               .journal = parts->journal,
                                               .clock = parts->clock,
                                               .seed = parts->seed,
                                       });
        if (r == 0 && parts->use == BACKEND_TO_CREATE)
                r = leases_new(&p->leases, &(struct leases_parts){
                                                   .registry = &p->all->registry,
                                                   .pool = p->pool,
                                                   .config = p->config,
                                                   .ring = p->ring,
                                           });
        return r;
}

int mount_pool_new(struct mount_pool **out, struct pools *all) {
        struct mount_pool *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return -ENOMEM;
        p->all = all;
        p->config = all->parts->config;
        list_add_tail(&all->list, &p->link);
        r = make_parts(p);
        if (r < 0) {
                mount_pool_free(p);
                return r;
        }
        *out = p;
        return 0;
}

void mount_pool_free(struct mount_pool *p) {
        if (!p)
                return;
        leases_free(p->leases);
        pool_free(p->pool);
        event_ring_free(p->ring);
        list_remove(&p->link);
        free(p);
}
