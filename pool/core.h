/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The core: the pool of environments, the table of leases and the ring of events, in the one order in which they
 * start, tick and stop.
 *
 *   new → starting → ready → serving → stopping
 *
 *   starting   core_start() was called; the backend has not answered
 *   ready      the backend can be used; the journal was not read
 *   serving    core_restore() took up what an earlier run left; leases can be made
 *   stopping   core_stop() was called; environments end or are let go of, until core_is_empty()
 *
 * It can be stopped in every state, and freed when it is empty.
 *
 * Its owner is the program: the daemon, `modalpool reap`, the simulation. The owner has the loop and the clock, calls
 * the functions below, and lends the pool, the leases and the events to the file system. Nothing here blocks. No
 * callback comes from inside one of these calls, and none after core_free().
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/base/config.h"
#include "pool/base/event.h"
#include "pool/base/journal.h"
#include "pool/environment/pool.h"
#include "pool/lease/lease.h"

struct core;

/* What a core is made of. All of it is borrowed, and outlives the core. */
struct core_parts {
        /* With BACKEND_TO_END there are no leases: core_restore() takes up environments only, for core_stop() to end. */
        enum backend_use use;
        const struct config *config;
        struct backend *backend;
        struct journal *journal; /* NULL keeps nothing */
        int spool_dir;           /* descriptor of a directory that holds only what leases put there */
        int64_t (*clock)(void);  /* microseconds; it never goes back */
        uint64_t seed;           /* of all jitter: the same seed and the same events give the same pool */
};

/* What the owner is told. */
struct core_events {
        /* The backend can be used, or why it cannot. Once, but not after core_stop(). */
        void (*ready)(void *owner, const struct result *r);
        /* A line for people from the backend. The events have it already. */
        void (*notice)(void *owner, const char *line);
        /* Each sandbox that the provider lists, before the pool hears of it; then the listing's end. Both may be NULL. */
        void (*found)(void *owner, const struct sandbox_found *found);
        void (*listed)(void *owner, const struct result *r);
};

/* 0 or -errno. */
int core_new(struct core **out, const struct core_parts *parts);

/* Only when it is empty. NULL is fine. */
void core_free(struct core *c);

/* Start the backend. 0: ready() is the answer. -errno: it never comes. */
int core_start(struct core *c, const struct core_events *events, void *owner);

/*
 * Take up the environments and leases in the journal, once, in state ready. 0 or -errno: then the core does not serve,
 * and core_stop() leaves the journal, the files and the environments for the next run.
 */
int core_restore(struct core *c);

/*
 * Do what is due, and return when the next thing is: a time of the clock, or USEC_NEVER. A time that has passed asks
 * for another tick. Call it after every input: events of the backend, and calls of the file system.
 *
 * Something that is overdue is judged by what the core has heard. So an owner that was held up delivers the events
 * that have come meanwhile, before it calls this.
 */
int64_t core_tick(struct core *c);

/*
 * Release every lease, and end every environment. With @keep, or before the core serves, only in memory: the journal,
 * the files and the environments stay as they are, with what runs in them, for the next run. A second call does nothing.
 */
void core_stop(struct core *c, bool keep);

/* No environment is left, not even one that is ending. */
bool core_is_empty(const struct core *c);

/* Good until core_free(). */
struct event_ring *core_event_ring(struct core *c);
struct pool *core_pool(struct core *c);
struct leases *core_leases(struct core *c); /* NULL with BACKEND_TO_END */
