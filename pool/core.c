/* SPDX-License-Identifier: MIT */
#include "pool/core.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "pool/core/pools.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

enum core_state {
        CORE_NEW,
        CORE_STARTING,
        CORE_READY,
        CORE_SERVING,
        CORE_STOPPING,
};

struct core {
        struct core_parts parts;
        const struct core_events *events;
        void *owner;
        enum core_state state;
        bool restored; /* so memory has everything that the journal has; stays true while stopping */
        struct pools pools;
};

int core_new(struct core **out, const struct core_parts *parts) {
        struct core *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        c->parts = *parts;
        r = pools_init(&c->pools, &c->parts);
        if (r < 0) {
                core_free(c);
                return r;
        }
        *out = c;
        return 0;
}

void core_free(struct core *c) {
        if (!c)
                return;
        if (c->parts.backend->client->owner == c)
                backend_client_listen(c->parts.backend->client, NULL, NULL);
        pools_deinit(&c->pools);
        free(c);
}

/* the backend's events */

static void on_ready(void *owner, const struct result *r) {
        struct core *c = owner;

        if (c->state == CORE_STOPPING)
                return;
        assert(c->state == CORE_STARTING);
        if (result_ok(r))
                c->state = CORE_READY;
        c->events->ready(c->owner, r);
}

static void on_notice(void *owner, const char *line) {
        struct core *c = owner;

        event_emit(core_event_ring(c), "backend", backend_name(c->parts.backend), "notice", NULL, line);
        c->events->notice(c->owner, line);
}

static void on_warning(void *owner, const char *text) {
        struct core *c = owner;
        const char *backend = backend_name(c->parts.backend);

        log_warning("%s warns: %s", backend, text);
        event_emit(core_event_ring(c), "backend", backend, "warning", NULL, text);
}

static const struct backend_client_events client_events = {
        .warning = on_warning,
};

static void on_found(void *owner, const struct sandbox_found *found) {
        struct core *c = owner;
        struct sandbox_found of_any_age = *found;

        if (c->events->found)
                c->events->found(c->owner, found);
        if (!c->restored)
                return;
        /*
         * A young sandbox could belong to a create that is under way. Here no create is, so it may be ended at any age.
         */
        if (c->parts.use == BACKEND_TO_END)
                of_any_age.created_wall_us = 0;
        pool_found(core_pool(c), &of_any_age);
}

static void on_listed(void *owner, const struct result *r) {
        struct core *c = owner;

        if (c->restored)
                pool_listed(core_pool(c), r);
        if (c->events->listed)
                c->events->listed(c->owner, r);
}

static const struct backend_events backend_events = {
        .ready = on_ready,
        .notice = on_notice,
        .found = on_found,
        .listed = on_listed,
};

/* the owner's calls */

int core_start(struct core *c, const struct core_events *events, void *owner) {
        assert(c->state == CORE_NEW);
        c->events = events;
        c->owner = owner;
        c->state = CORE_STARTING;
        backend_client_listen(c->parts.backend->client, &client_events, c);
        return backend_start(c->parts.backend, c->parts.use, &backend_events, c);
}

int core_restore(struct core *c) {
        int r;

        assert(c->state == CORE_READY);
        r = pools_restore(&c->pools);
        if (r < 0)
                return r;
        c->state = CORE_SERVING;
        c->restored = true;
        return 0;
}

int64_t core_tick(struct core *c) {
        return c->restored ? pools_tick(&c->pools) : USEC_NEVER; /* before that nothing can be created */
}

void core_stop(struct core *c, bool keep) {
        if (c->state == CORE_STOPPING)
                return;
        c->state = CORE_STOPPING;
        pools_stop(&c->pools, keep || !c->restored);
}

bool core_is_empty(const struct core *c) {
        return pools_are_empty(&c->pools);
}

struct pools *core_pools(struct core *c) {
        return &c->pools;
}

struct event_ring *core_event_ring(struct core *c) {
        return c->pools.own->ring;
}

struct pool *core_pool(struct core *c) {
        return c->pools.own->pool;
}

struct leases *core_leases(struct core *c) {
        return c->pools.own->leases;
}
