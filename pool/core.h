/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The core: the pools of a mount, each with its environments, its leases and its events. It starts, ticks and stops them
 * in the right order.
 *
 *   new → starting → ready → serving → stopping
 *
 *   starting   core_start() was called; the backend has not answered
 *   ready      the backend can be used; the journal was not read
 *   serving    core_restore() has taken back what an earlier run left; leases can be made
 *   stopping   core_stop() was called; environments end or are left alive, until core_is_empty()
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
#include "pool/base/event.h"
#include "pool/core/parts.h"
#include "pool/environment/pool.h"
#include "pool/lease/table.h"

struct core;
struct pools;

/* Events for the owner. */
struct core_events {
        /* Ok: the backend can be used. Comes once, but not after core_stop(). */
        void (*ready)(void *owner, const struct result *r);
        /* A line for people from the backend. It is already in the ring of events. */
        void (*notice)(void *owner, const char *line);
        /* Each sandbox that the provider lists, before the pool is told; then the end of the list. Both may be NULL. */
        void (*found)(void *owner, const struct sandbox_found *found);
        void (*listed)(void *owner, const struct result *r);
};

/* 0 or -errno. */
int core_new(struct core **out, const struct core_parts *parts);

/* Only when it is empty. NULL is allowed. */
void core_free(struct core *c);

/* Start the backend. 0: ready() will come. -errno: it will not. */
int core_start(struct core *c, const struct core_events *events, void *owner);

/*
 * Take back the environments and leases in the journal, once, in state ready. On -errno the core does not serve, and
 * core_stop() leaves the journal, the files and the environments for the next run.
 */
int core_restore(struct core *c);

/*
 * Do what is due. Returns when the next action is due, a time of the clock, or USEC_NEVER. A time in the past asks for
 * another tick. Call it after every input: events of the backend, and calls of the file system.
 *
 * Deadlines are judged by the events that have arrived. So an owner that was delayed delivers pending events before it
 * calls this.
 */
int64_t core_tick(struct core *c);

/*
 * Release every lease, and end every environment. With @keep, or before the core serves, this happens in memory only:
 * the journal, the files, the environments and their jobs stay as they are for the next run. A second call does
 * nothing.
 */
void core_stop(struct core *c, bool keep);

/* Whether no environment is left, not even one that is ending. */
bool core_is_empty(const struct core *c);

/* Valid until core_free(). */
struct pools *core_pools(struct core *c);

/* Of the mount's own pool; likewise. */
struct event_ring *core_event_ring(struct core *c);
struct pool *core_pool(struct core *c);
struct leases *core_leases(struct core *c); /* NULL with BACKEND_TO_END */
