/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the parts of the pool, and by nobody else:
 *
 *   pool.c          environments and claims: what happens to them
 *   pool-restore.c  after a restart: what an earlier run left, and what is nobody's
 *   pool-probe.c    whether idle environments still work
 *   pool-breaker.c  when creates fail: when the next may be sent
 *   pool-tick.c     what is due: to hand out, to create, to shrink, to give up
 */

#include <uthash.h>

#include "pool/environment/pool.h"
#include "pool/util/uuid.h"

struct environment {
        struct list link; /* in the pool's list of its state */
        struct pool *pool;
        enum environment_state state;
        struct sandbox *sandbox;
        UT_hash_handle hh;     /* in the pool's, by nonce */
        char nonce[UUID_SIZE]; /* what it is called before anybody answered */
        char *workdir;         /* what a lease may have left in it, or NULL */
        bool adopted;          /* an earlier run made it */
        char *ticket;          /* of an adopted one, until it answers */
        bool ending;           /* it is to be destroyed, not lent */
        bool left;             /* it was let go of, alive */
        struct claim *claim;  /* exactly while leased */
        uid_t user;           /* it was lent to this one, and is to nobody else; or POOL_NO_USER */
        bool retire;          /* destroyed, not lent again, at its next release */
        uint64_t uses;
        int64_t created_us;
        int64_t since_us;     /* in this state */
        int64_t retire_us;    /* from then on it is not lent any more */
        int64_t deadline_us;  /* while cleaning: when to give up */

        /* While idle */
        unsigned patience;    /* its own part of the extra idle time, in thousandths: so no herd ends at one moment */
        int64_t checked_us;   /* when it was last known to work */
        bool suspect;         /* its newest probe failed */
        struct exec *probe;   /* while one runs, */
        struct list probing;  /* and then in the pool's list of these */
        int64_t probe_end_us; /* when to give it up */
};

/* One that has ended. A listing that was answered before may still name it. */
struct terminated {
        UT_hash_handle hh; /* in the pool's, by nonce, the oldest first */
        char nonce[UUID_SIZE];
        int64_t since_us;
};

struct pool {
        struct backend *backend;
        struct journal *journal;
        const struct config *config;
        struct event_ring *events;
        struct list environments[ENVIRONMENT_N_STATES];
        unsigned count[ENVIRONMENT_N_STATES];
        struct environment *by_nonce; /* a hash over all of them */
        struct terminated *terminated; /* at most TERMINATED_MAX, each for ORPHAN_GRACE_US */
        struct list waiting; /* claims in order of arrival; they leave granted, failed or released */
        unsigned n_waiting;
        unsigned prewarm;
        uint64_t n_claims, n_claims_ticked; /* ever made; of these, seen by a tick */
        int64_t look_us;      /* not later than the first time at which an idle environment is too old to be lent */
        int64_t idle_look_us; /* likewise, was idle for too long, or is to be probed */
        bool held_back;       /* one of these was not served, for min or because of PROBES_AT_ONCE */
        struct list probing;  /* idle environments with a probe */
        unsigned n_probing;
        uint64_t random;      /* the generator's state */
        bool stopping;
        bool leaving;    /* stopping, but the environments live on */
        int64_t list_us; /* when to ask the provider next what there is, or USEC_NEVER; … */
        int64_t list_interval_us; /* … and how long after that again */
        unsigned n_strange, n_orphans; /* in the listing that is under way: not made by us; in nobody's books */
        int64_t restored_wall_us; /* when this run began to make any */
        int64_t (*clock)(void);

        /* A failed create puts off the next one; a successful one forgets that. */
        struct result trouble;
        int64_t failed_us; /* when that was; 0: it is forgotten */
        int64_t backoff_us;
        int64_t create_after_us;

        /* Too many that were refused for good in a row stop them, but for a trial now and then. */
        unsigned n_refused;
        bool broken;
        int64_t trial_us; /* while broken: when the next one may be sent */

        struct pool_totals totals;
};

/* An environment that is in no list yet, or NULL; its nonce is set. */
struct environment *environment_new(struct pool *p, const char *nonce);
void environment_free(struct environment *e);

/* Put it in the books: its sandbox is there. */
void environment_add(struct environment *e);

/* Whether it may be lent to this user. */
bool environment_is_for(const struct environment *e, uid_t uid);

/* From now on the claim has it. */
void environment_hold(struct environment *e, struct claim *c);

/* Write down how it stands. 0 or -errno. */
int environment_write(struct environment *e);

extern const struct sandbox_events environment_events;

/* pool-restore.c: list when that is due; when to look again. */
int64_t pool_tick_list(struct pool *p, int64_t now);

/* pool-restore.c: it has ended: a listing that still names it says nothing new. And forget all of these. */
void pool_note_terminated(struct pool *p, const char *nonce);
void pool_forget_terminated(struct pool *p);

/* Create one more. Counted before it is sent, so that a wish is never made twice. 0 or -errno. */
int environment_create(struct pool *p);

/* Destroy it, in whatever state it is; nobody may hold it. */
void environment_end(struct environment *e);

/* It died, or is given up: whoever has it loses it, and it is destroyed. */
void environment_lose(struct environment *e, const struct result *why);

/* It has just shown that it works. */
void environment_works(struct environment *e);

/* It begins to be idle: how much of the extra time will it have? When is it idle for too long? USEC_NEVER for never. */
void environment_draw_patience(struct environment *e);
int64_t environment_idle_end(const struct environment *e);

/* When it has to be probed, or USEC_NEVER; do so; stop that. */
int64_t environment_probe_time(const struct environment *e);
void environment_probe(struct environment *e);
void environment_forget_probe(struct environment *e);

/* Give up on probes that take too long; when the next of those that run does. */
void pool_end_late_probes(struct pool *p, int64_t now);
int64_t pool_probes_due(const struct pool *p);

/* Something about an idle environment changed: tick in time for it. */
void pool_look(struct pool *p, const struct environment *e);

/* A create that was sent then failed, or could not even be sent: the next one has to wait. */
void pool_put_off_creates(struct pool *p, int64_t sent_us, const struct result *why);

/* How a create ended. From when on the next may be sent, and how many may be on their way at one time. */
void pool_create_succeeded(struct pool *p);
void pool_create_failed(struct pool *p, int64_t sent_us, const struct result *r);
int64_t pool_creates_from(const struct pool *p);
unsigned pool_creates_most(const struct pool *p);

/* Take a claim out of the line. */
void claim_leave_line(struct pool *p, struct claim *c);

/* Give the environment to the claim. */
void claim_grant(struct pool *p, struct claim *c, struct environment *e);
