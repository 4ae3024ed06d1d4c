/* SPDX-License-Identifier: MIT */
#include "pool/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/limits.h"
#include "pool/util/log.h"

struct environment {
        struct list link; /* in the pool's list of its state */
        struct pool *pool;
        enum environment_state state;
        struct sandbox *sandbox;
        struct claim *claim;  /* exactly while leased */
        bool retire;          /* destroyed, not lent again, at its next release */
        uint64_t uses;
        int64_t created_us;
        int64_t deadline_us;  /* while cleaning: when to give up */
};

struct pool {
        struct backend *backend;
        const struct config *config;
        struct event_ring *events;
        struct list environments[ENVIRONMENT_N_STATES];
        unsigned count[ENVIRONMENT_N_STATES];
        struct list waiting; /* claims in order of arrival; they leave granted, failed or released */
        unsigned n_waiting;
        unsigned prewarm;
        bool stopping;
        int64_t (*clock)(void);

        /* A failed create puts off the next one; a successful one forgets that. */
        struct result trouble;
        int64_t backoff_us;
        int64_t create_after_us;

        struct pool_totals totals;
};

static const char *const state_names[] = {
        [ENVIRONMENT_CREATING] = "creating",
        [ENVIRONMENT_IDLE] = "idle",
        [ENVIRONMENT_LEASED] = "leased",
        [ENVIRONMENT_CLEANING] = "cleaning",
        [ENVIRONMENT_ENDING] = "ending",
};

const char *environment_state_name(enum environment_state state) {
        return state_names[state];
}

struct sandbox *environment_sandbox(const struct environment *e) {
        return e->sandbox;
}

const char *environment_id(const struct environment *e) {
        return e->sandbox->id;
}

/* The one place where an environment changes state. The newest idle one is lent first, so it stands first. */
static void environment_set_state(struct environment *e, enum environment_state state) {
        struct pool *p = e->pool;

        list_remove(&e->link);
        p->count[e->state]--;
        e->state = state;
        p->count[state]++;
        if (state == ENVIRONMENT_IDLE)
                list_add_head(&p->environments[state], &e->link);
        else
                list_add_tail(&p->environments[state], &e->link);

        log_debug("environment=%s lease=%s: %s", e->sandbox->id, e->claim ? e->claim->name : "-",
                  state_names[state]);
        event_emit(p->events, "environment", e->sandbox->id, state_names[state],
                   e->claim ? e->claim->name : NULL, NULL);
}

static void environment_end(struct environment *e) {
        assert(!e->claim);
        environment_set_state(e, ENVIRONMENT_ENDING);
        sandbox_destroy(e->sandbox);
}

/* Lend it again, or not: more than max exist only until the next one comes free. */
static void environment_settle(struct environment *e) {
        struct pool *p = e->pool;
        bool spare = pool_count_all(p) - p->count[ENVIRONMENT_ENDING] > p->config->max;

        bool used_up = e->retire || (e->uses > 0 && (spare || p->config->mode == MODE_DIRECT));

        if (p->stopping || used_up)
                environment_end(e);
        else
                environment_set_state(e, ENVIRONMENT_IDLE);
}

static void environment_lose(struct environment *e, const struct result *why) {
        struct claim *c = e->claim;

        e->pool->totals.died++;
        log_warning("environment=%s lease=%s: lost: %s", e->sandbox->id, c ? c->name : "-", why->text);
        if (c) {
                /* The lease hears of it first: it cancels its job, so that nothing runs when the end comes. */
                e->claim = NULL;
                c->environment = NULL;
                c->state = CLAIM_NONE;
                c->events->lost(c, why);
        }
        environment_end(e);
}

static void on_created(void *owner, const struct result *r) {
        struct environment *e = owner;
        struct pool *p = e->pool;

        if (result_ok(r)) {
                p->totals.created++;
                p->trouble.code = RESULT_OK;
                p->backoff_us = 0;
                e->created_us = p->clock();
                environment_settle(e);
                return;
        }
        p->totals.create_failures++;
        p->trouble = *r;
        p->backoff_us = p->backoff_us ? p->backoff_us * 2 : BACKOFF_MIN_US;
        if (p->backoff_us > BACKOFF_MAX_US)
                p->backoff_us = BACKOFF_MAX_US;
        p->create_after_us = clock_after(p->clock(), p->backoff_us);
        log_warning("environment: not created: %s", r->text);
        event_emit(p->events, "environment", e->sandbox->id, "create-failed", NULL, r->text);
        environment_end(e);
}

static void on_died(void *owner, const struct result *why) {
        struct environment *e = owner;

        environment_lose(e, why);
}

static void on_cleaned(void *owner, const struct result *r) {
        struct environment *e = owner;

        if (e->state != ENVIRONMENT_CLEANING)
                return; /* given up meanwhile */
        if (result_ok(r)) {
                e->pool->totals.cleaned++;
                environment_settle(e);
                return;
        }
        e->pool->totals.clean_failures++;
        log_warning("environment=%s: clean-up failed, destroying it: %s", e->sandbox->id, r->text);
        environment_end(e);
}

static void on_destroyed(void *owner, const struct result *r) {
        struct environment *e = owner;
        struct pool *p = e->pool;

        p->totals.destroyed++;
        if (!result_ok(r)) {
                p->totals.destroy_failures++;
                log_error("environment=%s: not ended: %s", e->sandbox->id, r->text);
        }
        event_emit(p->events, "environment", e->sandbox->id, "gone", NULL, result_ok(r) ? NULL : r->text);
        list_remove(&e->link);
        p->count[e->state]--;
        free(e);
}

static const struct sandbox_events sandbox_events = {
        .created = on_created,
        .died = on_died,
        .cleaned = on_cleaned,
        .destroyed = on_destroyed,
};

/* Counted before it is sent, so that a wish is never made twice. */
static int environment_create(struct pool *p) {
        struct environment *e;
        int r;

        e = calloc(1, sizeof(*e));
        if (!e)
                return -ENOMEM;
        list_init(&e->link);
        e->pool = p;
        e->created_us = p->clock();
        r = sandbox_create(p->backend, &sandbox_events, e, &e->sandbox);
        if (r < 0) {
                free(e);
                return r;
        }
        e->state = ENVIRONMENT_CREATING;
        p->count[ENVIRONMENT_CREATING]++;
        environment_set_state(e, ENVIRONMENT_CREATING);
        if (p->config->mode == MODE_POOL && pool_count_all(p) > p->config->max)
                p->totals.oversubscribed++;
        return 0;
}

int pool_new(struct pool **out, struct backend *backend, const struct config *config, struct event_ring *events,
             int64_t (*clock)(void)) {
        struct pool *p = calloc(1, sizeof(*p));

        if (!p)
                return -ENOMEM;
        p->backend = backend;
        p->config = config;
        p->events = events;
        p->clock = clock;
        list_init(&p->waiting);
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                list_init(&p->environments[i]);
        *out = p;
        return 0;
}

void pool_free(struct pool *p) {
        if (!p)
                return;
        assert(pool_is_empty(p) && list_empty(&p->waiting));
        free(p);
}

void claim_init(struct claim *c, const struct claim_events *events, const char *name) {
        *c = (struct claim){ .events = events, .name = name };
        list_init(&c->link);
}

void pool_claim(struct pool *p, struct claim *c) {
        assert(c->state == CLAIM_NONE);
        c->since_us = p->clock();
        c->state = CLAIM_WAITING;
        list_add_tail(&p->waiting, &c->link);
        p->n_waiting++;
}

static void claim_leave_line(struct pool *p, struct claim *c) {
        list_remove(&c->link);
        p->n_waiting--;
        c->state = CLAIM_NONE;
}

static void claim_grant(struct pool *p, struct claim *c, struct environment *e) {
        int64_t now = p->clock();

        claim_leave_line(p, c);
        c->state = CLAIM_GRANTED;
        c->environment = e;
        e->claim = c;
        p->totals.granted++;
        p->totals.granted_warm += c->since_us == now;
        p->totals.wait_us += now - c->since_us;
        e->uses++;
        environment_set_state(e, ENVIRONMENT_LEASED);
        c->events->granted(c);
}

void pool_release(struct pool *p, struct claim *c, const char *workdir) {
        struct environment *e = c->environment;

        switch (c->state) {
        case CLAIM_NONE:
                return;
        case CLAIM_WAITING:
                claim_leave_line(p, c);
                return;
        case CLAIM_GRANTED:
                break;
        }

        c->state = CLAIM_NONE;
        c->environment = NULL;
        e->claim = NULL;
        if (!workdir) {
                environment_settle(e);
                return;
        }
        if (p->stopping || e->retire || p->config->mode == MODE_DIRECT ||
            sandbox_clean(e->sandbox, workdir) < 0) {
                environment_end(e);
                return;
        }
        e->deadline_us = clock_after(p->clock(), CLEAN_TIMEOUT_US);
        environment_set_state(e, ENVIRONMENT_CLEANING);
}

void pool_condemn(struct pool *p, struct claim *c, const struct result *why) {
        (void)p;
        assert(c->state == CLAIM_GRANTED);
        environment_lose(c->environment, why);
}

void pool_prewarm(struct pool *p, unsigned n) {
        p->prewarm = n < p->config->max ? n : p->config->max;
}

void pool_recycle(struct pool *p) {
        struct environment *e, *tmp;

        list_for_each (e, &p->environments[ENVIRONMENT_LEASED], link)
                e->retire = true;
        list_for_each (e, &p->environments[ENVIRONMENT_CLEANING], link)
                e->retire = true;
        list_for_each_safe (e, tmp, &p->environments[ENVIRONMENT_IDLE], link)
                environment_end(e);
}

void pool_stop(struct pool *p) {
        struct environment *e, *tmp;

        p->stopping = true;
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                if (i != ENVIRONMENT_LEASED && i != ENVIRONMENT_ENDING)
                        list_for_each_safe (e, tmp, &p->environments[i], link)
                                environment_end(e);
}

bool pool_is_empty(const struct pool *p) {
        return pool_count_all(p) == 0;
}

/* Give up on clean-ups that do not end. They were begun in order, so the first is the oldest. */
static int64_t tick_cleaning(struct pool *p, int64_t now) {
        struct environment *e;

        while ((e = list_first(&p->environments[ENVIRONMENT_CLEANING], struct environment, link))) {
                if (e->deadline_us > now)
                        return e->deadline_us;
                p->totals.clean_failures++;
                log_warning("environment=%s: clean-up takes too long, destroying it", e->sandbox->id);
                environment_end(e);
        }
        return USEC_NEVER;
}

static void tick_grant(struct pool *p) {
        struct environment *e;
        struct claim *c;

        while ((c = list_first(&p->waiting, struct claim, link)) &&
               (e = list_first(&p->environments[ENVIRONMENT_IDLE], struct environment, link)))
                claim_grant(p, c, e);
}

/* How many claims, as far as it matters, have waited past their time. They stand first in line. */
static unsigned count_overdue(struct pool *p, int64_t now, int64_t *next) {
        unsigned n = 0;
        struct claim *c;

        list_for_each (c, &p->waiting, link) {
                int64_t due = clock_after(c->since_us, p->config->wait_us);

                if (due > now) {
                        *next = due;
                        break;
                }
                if (++n == CREATES_AT_ONCE)
                        break;
        }
        return n;
}

static void fail_overdue(struct pool *p, unsigned n) {
        struct result why;

        while (n-- > 0) {
                struct claim *c = list_first(&p->waiting, struct claim, link);

                result_set(&why, RESULT_TIMEOUT,
                           "waited %lld s for an environment; all %u are in use%s%s; release a lease, or raise max or wait",
                           (long long)(p->config->wait_us / USEC_PER_SEC), (unsigned)p->config->max,
                           p->trouble.code ? ", and the newest create failed: " : "",
                           p->trouble.code ? p->trouble.text : "");
                claim_leave_line(p, c);
                c->events->failed(c, &why);
        }
}

/* What cannot succeed by trying again is told to everyone who waits for it. */
static void fail_hopeless(struct pool *p) {
        struct result why = p->trouble;
        struct claim *c;

        if (why.code != RESULT_INVALID && why.code != RESULT_DENIED)
                return;
        while ((c = list_first(&p->waiting, struct claim, link))) {
                claim_leave_line(p, c);
                c->events->failed(c, &why);
        }
        p->trouble.code = RESULT_OK;
}

static int64_t tick_create(struct pool *p, int64_t now, unsigned overdue) {
        const unsigned *count = p->count;
        unsigned all = pool_count_all(p), max = p->config->max, room = all < max ? max - all : 0;
        unsigned warm, wanted, want_warm;

        if (p->config->mode == MODE_DIRECT)
                room = UINT32_MAX;

        /* For those who wait, as far as there is room, and for those overdue in any case; */
        wanted = p->n_waiting > count[ENVIRONMENT_CREATING] ? p->n_waiting - count[ENVIRONMENT_CREATING] : 0;
        if (wanted > room)
                wanted = room;
        overdue = overdue > count[ENVIRONMENT_CREATING] ? overdue - count[ENVIRONMENT_CREATING] : 0;
        if (wanted < overdue)
                wanted = overdue;

        /* and to keep some warm, within max. */
        warm = count[ENVIRONMENT_IDLE] + count[ENVIRONMENT_CLEANING] +
               (count[ENVIRONMENT_CREATING] > p->n_waiting ? count[ENVIRONMENT_CREATING] - p->n_waiting : 0);
        want_warm = p->config->min > p->prewarm ? p->config->min : p->prewarm;
        if (want_warm > warm && room > wanted)
                wanted += room - wanted < want_warm - warm ? room - wanted : want_warm - warm;

        if (wanted > 0 && p->create_after_us > now)
                return p->create_after_us;
        while (wanted-- > 0 && count[ENVIRONMENT_CREATING] < CREATES_AT_ONCE)
                if (environment_create(p) < 0) {
                        p->create_after_us = clock_after(now, BACKOFF_MIN_US);
                        return p->create_after_us;
                }
        if (count[ENVIRONMENT_IDLE] + count[ENVIRONMENT_CREATING] >= p->prewarm)
                p->prewarm = 0; /* asked for once, done once */
        return USEC_NEVER;
}

/*
 * Idle environments beyond max, after max was lowered or a waiter left: the oldest go first.
 * In mode direct those in use have no maximum, and only the idle ones count.
 */
static void tick_shrink(struct pool *p) {
        bool direct = p->config->mode == MODE_DIRECT;

        while (p->count[ENVIRONMENT_IDLE] > 0 &&
               (direct ? p->count[ENVIRONMENT_IDLE] : pool_count_all(p) - p->count[ENVIRONMENT_ENDING]) >
                       p->config->max)
                environment_end(list_last(&p->environments[ENVIRONMENT_IDLE], struct environment, link));
}

int64_t pool_tick(struct pool *p) {
        int64_t now = p->clock(), next, due;
        unsigned overdue;

        next = tick_cleaning(p, now);
        if (p->stopping)
                return next;

        tick_grant(p);
        fail_hopeless(p);
        due = USEC_NEVER;
        overdue = count_overdue(p, now, &due);
        if (due < next)
                next = due;
        if (!p->config->oversubscribe && overdue > 0) {
                fail_overdue(p, overdue);
                overdue = 0;
                next = now; /* there may be more */
        }
        due = tick_create(p, now, overdue);
        if (due < next)
                next = due;
        tick_shrink(p);
        return next;
}

unsigned pool_count(const struct pool *p, enum environment_state state) {
        return p->count[state];
}

unsigned pool_count_all(const struct pool *p) {
        unsigned n = 0;

        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                n += p->count[i];
        return n;
}

unsigned pool_count_waiting(const struct pool *p) {
        return p->n_waiting;
}

const struct pool_totals *pool_totals(const struct pool *p) {
        return &p->totals;
}

const struct backend *pool_backend(const struct pool *p) {
        return p->backend;
}

const struct result *pool_trouble(const struct pool *p) {
        return p->trouble.code == RESULT_OK ? NULL : &p->trouble;
}

void pool_each_environment(const struct pool *p, void (*each)(void *data, const struct environment_info *info),
                           void *data) {
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++) {
                const struct environment *e;

                list_for_each (e, &p->environments[i], link)
                        each(data, &(struct environment_info){
                                           .id = e->sandbox->id,
                                           .state = e->state,
                                           .lease = e->claim ? e->claim->name : NULL,
                                           .uses = e->uses,
                                           .created_us = e->created_us,
                                   });
        }
}
