/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One environment, and the set of all environments of a pool.
 *
 * An environment is in exactly one state, and in the set's list of that state:
 *
 *   creating → idle ⇄ leased → cleaning → idle
 *   and from each of them → ending → gone
 *
 * An environment of an earlier run begins as creating, too. From there it can
 * also become leased, if a restored lease holds it, or cleaning.
 *
 * One that is given back while a snapshot of it is being taken is cleaning, too: its clean-up waits for that.
 *
 * An environment that was lent to a user is never lent to another, who could
 * read what the first user left in it.
 *
 * The set belongs to a pool (pool.c) and decides nothing. It tells the pool by
 * events what happened to an environment; the pool decides what it becomes.
 * The pool's parts read all fields, and write none of those that functions
 * below write. Leases use the functions that are marked for them, and nothing
 * else. The pool keeps the set bounded: config's max.
 *
 * Nothing here blocks. Events come from the backend's answers; probe_over()
 * comes also from inside a change of state.
 */

#include <uthash.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/backend/backend.h"
#include "pool/base/config.h"
#include "pool/base/event.h"
#include "pool/base/journal.h"
#include "pool/environment/claim.h"
#include "pool/environment/probe.h"
#include "pool/util/list.h"
#include "pool/util/transition.h"
#include "pool/util/uuid.h"

struct fleet;
struct environment_snapshot;

#define ENVIRONMENT_NO_USER ((uid_t)-1) /* no user has this uid: chown(2) takes it for "no change" */

enum environment_state {
        ENVIRONMENT_CREATING,
        ENVIRONMENT_IDLE,
        ENVIRONMENT_LEASED,
        ENVIRONMENT_CLEANING,
        ENVIRONMENT_ENDING,
        ENVIRONMENT_N_STATES,
};
extern const struct transitions environment_transitions;

struct environment {
        struct list link; /* in the set's list of its state */
        struct environments *all;
        enum environment_state state;
        struct sandbox *sandbox;
        UT_hash_handle hh;     /* in the fleet's, by nonce */
        char nonce[UUID_SIZE]; /* its name before the provider answered */
        char *workdir;         /* to be removed by the next clean-up, or NULL */
        bool adopted;          /* an earlier run made it */
        char *resume_token;          /* of an adopted one, until it answers */
        bool ending;           /* to be destroyed, never lent again */
        bool left;             /* it was left alive for the next run */
        struct claim *claim;   /* exactly while leased */
        uid_t user;            /* the only user it is lent to; ENVIRONMENT_NO_USER: it was never lent */
        bool retire;           /* it is destroyed at its next release */
        uint64_t uses;         /* leases so far, including the present one */
        int64_t created_us;
        int64_t since_us;      /* when it entered this state */
        int64_t retire_us;     /* from when on it is not lent, or USEC_NEVER */
        int64_t deadline_us;   /* while cleaning: when to give up */
        bool waits;            /* while cleaning: its clean-up has not begun, and waits for a snapshot */
        struct environment_snapshot *snapshot; /* of it, that is under way; or NULL */

        /* While idle */
        unsigned idle_extra;   /* its share of the extra idle time, in thousandths, so that not all end together */
        struct probe probe;
};

struct environment_events {
        /* The answer to its create. Not ok: it can only be terminated. */
        void (*created)(void *owner, struct environment *e, const struct result *r);
        /* An environment of an earlier run is alive. */
        void (*adopted)(void *owner, struct environment *e);
        /* It died or no longer works: its claim loses it, and the owner terminates it. */
        void (*died)(void *owner, struct environment *e, const struct result *why);
        /* The answer to its clean-up. Not ok, or with changes: it must not be lent again. */
        void (*cleaned)(void *owner, struct environment *e, const struct result *r,
                        const struct sandbox_changes *changes);
        /* A snapshot of it is there, or failed. If it waited for that, its clean-up is due. */
        void (*snapshot_over)(void *owner, struct environment *e);
        /* A probe ended, or was cancelled. */
        void (*probe_over)(void *owner, struct environment *e);
        /* It is in no list and is freed after this call. Not ok: the provider could not be told to terminate it. */
        void (*gone)(void *owner, struct environment *e, const struct result *r);
};

struct environments {
        struct fleet *fleet;         /* borrowed, as are the next six */
        struct backend *backend;
        const struct config *config;
        struct event_ring *ring;
        struct journal *journal;     /* or NULL */
        uint64_t serial;             /* of the pool; 0: the mount's own */
        uint64_t *random;            /* the state of the generator for jitter */
        int64_t (*clock)(void);      /* in microseconds */
        const struct environment_events *events;
        void *owner;                 /* the events' */

        struct list in[ENVIRONMENT_N_STATES]; /* newest idle first; all others oldest first, by the time in the state */
        unsigned count[ENVIRONMENT_N_STATES];
        struct probes probes;
        bool leaving;                 /* leave environments alive for the next run instead of terminating them */
};

/* The caller has set all borrowed fields and the events. There is no deinit: all environments must be gone. */
void environments_init(struct environments *all);

/* In any set of the fleet, or NULL. */
struct environment *environments_find(const struct fleet *fleet, const char *nonce);
unsigned environments_count(const struct environments *all);

/* Create one more. It is counted from now on, so that no create is sent twice for the same need. 0 or -errno. */
int environment_create(struct environments *all);

/* Make an environment from a row of the journal. It is in no list yet and belongs to the caller. 0 or -errno. */
int environment_from_row(struct environment **out, struct environments *all, const struct journal_environment *row);

/*
 * Take an environment from environment_from_row() into the set: ask whether it is alive, or terminate it if it was
 * ending or its create was never answered. On -errno it still belongs to the caller; -ENOTSUP if the backend's
 * sandboxes end with the run.
 */
int environment_adopt(struct environment *e);

/* Only before it is in the set. NULL is allowed. */
void environment_free(struct environment *e);

/* Whether it may be lent to this user. */
bool environment_is_for(const struct environment *e, uid_t uid);

/* Lend it to a claim; take it back. Both set the claim's state, too. */
void environment_lease(struct environment *e, struct claim *c);
void environment_take_back(struct environment *e);

/* A job is about to run in it, in @workdir, so it must be cleaned before it is idle again. 0 or -errno. */
int environment_use(struct environment *e, const char *workdir);

/* Remove what a lease left, now or when it has waited. Answered by cleaned(). 0 or -errno. */
int environment_clean(struct environment *e);

/* It was given back, and its clean-up waits for a snapshot; not longer than a clean-up may take. */
void environment_wait(struct environment *e);

/* From now on it can be lent. */
void environment_set_idle(struct environment *e);

/* Destroy it, in any state; no claim may hold it. Answered by gone(). */
void environment_terminate(struct environment *e);

/* Write its row to the journal. 0 or -errno. */
int environment_write(struct environment *e);

/* The configuration or its expiry changed: update retire_us. */
void environment_update_retirement(struct environment *e);

/* When it has been idle for too long, or USEC_NEVER. */
int64_t environment_idle_end(const struct environment *e);

/* For leases and for people. The strings are borrowed. */
struct sandbox *environment_sandbox(const struct environment *e);
const char *environment_nonce(const struct environment *e);
const char *environment_workdir(const struct environment *e); /* as environment_use() was told, or NULL */
const char *environment_id(const struct environment *e);
const char *environment_state_name(enum environment_state state);
