/* SPDX-License-Identifier: MIT */
#include "pool/core.h"
#include "pool/lease/restore.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

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
        bool keeps;    /* it stops, and leaves the journal to the next run */
        struct event_ring *ring;
        struct pool *pool;
        struct leases *leases; /* NULL with BACKEND_TO_END */
};

int core_new(struct core **out, const struct core_parts *parts) {
        struct core *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        c->parts = *parts;
        r = event_ring_new(&c->ring);
        if (r == 0)
                r = pool_new(&c->pool, parts->backend, parts->config, c->ring, parts->journal, parts->clock, parts->seed);
        if (r == 0 && parts->use == BACKEND_TO_CREATE)
                r = leases_new(&c->leases, c->pool, parts->config, c->ring, parts->journal, parts->spool_dir,
                               parts->clock);
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
        leases_free(c->leases);
        pool_free(c->pool);
        event_ring_free(c->ring);
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

        event_emit(c->ring, "backend", backend_name(c->parts.backend), "notice", NULL, line);
        c->events->notice(c->owner, line);
}

static void on_warning(void *owner, const char *text) {
        struct core *c = owner;
        const char *backend = backend_name(c->parts.backend);

        log_warning("%s warns: %s", backend, text);
        event_emit(c->ring, "backend", backend, "warning", NULL, text);
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
        pool_found(c->pool, &of_any_age);
}

static void on_listed(void *owner, const struct result *r) {
        struct core *c = owner;

        if (c->restored)
                pool_listed(c->pool, r);
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
        /* Environments first: leases look up the ones that they hold. */
        r = pool_restore(c->pool);
        if (r == 0 && c->leases)
                r = leases_restore(c->leases);
        if (r < 0)
                return r;
        c->state = CORE_SERVING;
        c->restored = true;
        return 0;
}

int64_t core_tick(struct core *c) {
        int64_t next;

        if (!c->restored) /* nothing can be created yet */
                return USEC_NEVER;
        if (!c->leases)
                return pool_tick(c->pool);
        /* Leases first: they free environments that the pool can grant. Grants in turn set deadlines of leases. */
        leases_tick(c->leases);
        next = pool_tick(c->pool);
        /*
         * A write failed, and a later one succeeded. If this fails too, the next write that succeeds brings us here
         * again.
         */
        if (!c->keeps && journal_is_stale(c->parts.journal))
                (void)leases_rewrite(c->leases);
        return clock_earlier(next, leases_due(c->leases));
}

void core_stop(struct core *c, bool keep) {
        if (c->state == CORE_STOPPING)
                return;
        c->state = CORE_STOPPING;
        c->keeps = keep = keep || !c->restored;
        /* The pool first, so that it does not clean the environments that leases give back now. */
        if (keep)
                pool_leave(c->pool);
        else
                pool_stop(c->pool);
        if (c->leases)
                leases_stop(c->leases, keep);
}

bool core_is_empty(const struct core *c) {
        return backend_count(c->parts.backend) == 0;
}

struct event_ring *core_event_ring(struct core *c) {
        return c->ring;
}

struct pool *core_pool(struct core *c) {
        return c->pool;
}

struct leases *core_leases(struct core *c) {
        return c->leases;
}
