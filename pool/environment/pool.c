/* SPDX-License-Identifier: MIT */
#include "pool/environment/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/environment/internal.h"
#include "pool/environment/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

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

const char *environment_nonce(const struct environment *e) {
        return e->nonce;
}

const char *environment_workdir(const struct environment *e) {
        return e->workdir;
}

const char *environment_id(const struct environment *e) {
        return e->sandbox->id;
}

/* The one place where an environment changes state. The newest idle one is lent first, so it stands first. */
static void environment_set_state(struct environment *e, enum environment_state state) {
        struct pool *p = e->pool;

        environment_forget_probe(e);
        list_remove(&e->link);
        p->count[e->state]--;
        e->state = state;
        e->since_us = p->clock();
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

int environment_write(struct environment *e) {
        const char *ticket = e->sandbox ? e->sandbox->ticket : NULL;

        return journal_put_environment(e->pool->journal, &(struct journal_environment){
                                                                 .nonce = e->nonce,
                                                                 .id = e->sandbox ? e->sandbox->id : "",
                                                                 .ticket = ticket ?: e->ticket ?: "",
                                                                 .workdir = e->workdir,
                                                                 .user = e->user,
                                                                 .uses = e->uses,
                                                                 .ending = e->ending,
                                                                 .created_us = e->created_us,
                                                         });
}

void environment_end(struct environment *e) {
        assert(!e->claim);
        environment_set_state(e, ENVIRONMENT_ENDING);
        if (e->pool->leaving && e->sandbox->state != SANDBOX_DEAD) {
                e->left = true;
                sandbox_leave(e->sandbox);
                return;
        }
        e->ending = true;
        (void)environment_write(e); /* else the next run finds out by itself that it is gone */
        sandbox_destroy(e->sandbox);
}

/* Whether its time is over: it is destroyed instead of lent again. */
static bool environment_is_used_up(const struct environment *e) {
        const struct pool *p = e->pool;
        const struct config *c = p->config;

        if (p->stopping || e->retire || e->retire_us <= p->clock())
                return true;
        return e->uses > 0 && (c->mode == MODE_DIRECT || c->reset == RESET_ENVIRONMENT ||
                               (c->max_uses > 0 && e->uses >= c->max_uses));
}

/* More than max exist only until the next one comes free. */
static bool environment_is_one_too_many(const struct environment *e) {
        const struct pool *p = e->pool;

        return e->uses > 0 && pool_count_all(p) - p->count[ENVIRONMENT_ENDING] > p->config->max;
}

/* Lend it again, or not. */
static void environment_settle(struct environment *e) {
        struct pool *p = e->pool;

        if (environment_is_used_up(e) || environment_is_one_too_many(e)) {
                environment_end(e);
                return;
        }
        if (e->retire_us < p->look_us)
                p->look_us = e->retire_us;
        environment_set_state(e, ENVIRONMENT_IDLE);
        environment_draw_patience(e);
        pool_look(p, e);
}

/*
 * Up to when it may be lent: so long before its end, by our own rule or the provider's, that a lease which gets it
 * has min_life left; but for half its life in any case, or one with a short life would be ended unused, and the next.
 */
static int64_t environment_retire_time(const struct environment *e) {
        const struct config *c = e->pool->config;
        int64_t end = c->max_lifetime_us ? clock_after(e->created_us, c->max_lifetime_us) : USEC_NEVER, half;

        if (e->sandbox->expires_us && e->sandbox->expires_us < end)
                end = e->sandbox->expires_us;
        if (end == USEC_NEVER)
                return end;
        half = e->created_us + (end - e->created_us) / 2;
        return end - c->min_life_us > half ? end - c->min_life_us : half;
}

void environment_lose(struct environment *e, const struct result *why) {
        struct claim *c = e->claim;

        e->pool->totals.died++;
        log_warning("environment=%s lease=%s: lost: %s", e->sandbox->id, c ? c->name : "-", why->text);
        event_emit(e->pool->events, "environment", e->sandbox->id, "died", c ? c->name : NULL, why->text);
        if (c) {
                /* The lease hears of it first: it cancels its job, so that nothing runs when the end comes. */
                e->claim = NULL;
                c->environment = NULL;
                c->state = CLAIM_NONE;
                c->events->lost(c, why);
        }
        environment_end(e);
}

/* What the last lease left goes, and then it is lent again. */
static void environment_clean(struct environment *e) {
        if (environment_is_used_up(e) || environment_is_one_too_many(e) || sandbox_clean(e->sandbox, e->workdir) < 0) {
                environment_end(e);
                return;
        }
        e->deadline_us = clock_after(e->pool->clock(), CLEAN_TIMEOUT_US);
        environment_set_state(e, ENVIRONMENT_CLEANING);
}

/* An earlier run's has answered, or will not. */
static void on_adopted(struct environment *e, const struct result *r) {
        struct result why;

        if (!result_ok(r)) {
                result_set(&why, RESULT_LOST, "%s", r->text); /* whatever was in the way, it is given up */
                environment_lose(e, &why);
                return;
        }
        e->pool->totals.adopted++;
        environment_works(e);
        e->retire_us = environment_retire_time(e);
        log_info("environment=%s lease=%s: taken back", e->sandbox->id, e->claim ? e->claim->name : "-");
        event_emit(e->pool->events, "environment", e->sandbox->id, "adopted", e->claim ? e->claim->name : NULL, NULL);
        if (e->claim)
                e->claim->events->granted(e->claim);
        else if (e->workdir)
                environment_clean(e);
        else
                environment_settle(e);
}

static void on_created(void *owner, const struct result *r) {
        struct environment *e = owner;
        struct pool *p = e->pool;

        if (e->adopted) {
                on_adopted(e, r);
                return;
        }
        if (result_ok(r)) {
                pool_create_succeeded(p);
                e->created_us = p->clock();
                e->retire_us = environment_retire_time(e);
                environment_works(e);
                (void)environment_write(e); /* else the next run finds it by its nonce, and ends it */
                environment_settle(e);
                return;
        }
        log_warning("environment: create failed: %s", r->text);
        event_emit(p->events, "environment", e->sandbox->id, "create-failed", NULL, r->text);
        pool_create_failed(p, e->created_us, r);
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
                environment_works(e);
                free(TAKE_PTR(e->workdir));
                (void)environment_write(e); /* else it is cleaned once more */
                environment_settle(e);
                return;
        }
        e->pool->totals.clean_failures++;
        log_warning("environment=%s: clean-up failed, destroying it: %s", e->sandbox->id, r->text);
        event_emit(e->pool->events, "environment", e->sandbox->id, "clean-failed", NULL, r->text);
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
        event_emit(p->events, "environment", e->sandbox->id, e->left ? "left" : "gone", NULL,
                   result_ok(r) ? NULL : r->text);
        if (result_ok(r) && !e->left) {
                (void)journal_drop_environment(p->journal, e->nonce);
                pool_note_terminated(p, e->nonce);
        }
        p->count[e->state]--;
        HASH_DELETE(hh, p->by_nonce, e);
        environment_free(e);
}

const struct sandbox_events environment_events = {
        .created = on_created,
        .died = on_died,
        .cleaned = on_cleaned,
        .destroyed = on_destroyed,
};

struct environment *environment_new(struct pool *p, const char *nonce) {
        struct environment *e = calloc(1, sizeof(*e));

        if (!e)
                return NULL;
        list_init(&e->link);
        list_init(&e->probing);
        e->pool = p;
        e->created_us = p->clock();
        e->retire_us = USEC_NEVER;
        e->user = POOL_NO_USER;
        snprintf(e->nonce, sizeof(e->nonce), "%s", nonce);
        return e;
}

void environment_free(struct environment *e) {
        if (!e)
                return;
        list_remove(&e->link);
        free(e->workdir);
        free(e->ticket);
        free(e);
}

void environment_add(struct environment *e) {
        e->state = ENVIRONMENT_CREATING;
        e->pool->count[ENVIRONMENT_CREATING]++;
        HASH_ADD_STR(e->pool->by_nonce, nonce, e);
        environment_set_state(e, ENVIRONMENT_CREATING);
}

int environment_create(struct pool *p) {
        struct environment *e;
        char nonce[UUID_SIZE];
        int r = uuid_make(nonce);

        if (r < 0)
                return r;
        e = environment_new(p, nonce);
        if (!e)
                return -ENOMEM;
        r = environment_write(e); /* before anybody may hear of it */
        if (r == 0) {
                r = sandbox_create(p->backend, e->nonce, &environment_events, e, &e->sandbox);
                if (r < 0)
                        (void)journal_drop_environment(p->journal, e->nonce);
        }
        if (r < 0) {
                environment_free(e);
                return r;
        }
        environment_add(e);
        if (p->config->mode == MODE_POOL && pool_count_all(p) > p->config->max)
                p->totals.oversubscribed++;
        return 0;
}

int pool_new(struct pool **out, struct backend *backend, const struct config *config, struct event_ring *events,
             struct journal *journal, int64_t (*clock)(void), uint64_t seed) {
        struct pool *p = calloc(1, sizeof(*p));

        if (!p)
                return -ENOMEM;
        p->backend = backend;
        p->config = config;
        p->events = events;
        p->journal = journal;
        p->clock = clock;
        p->random = seed;
        p->look_us = p->idle_look_us = p->list_us = USEC_NEVER;
        list_init(&p->waiting);
        list_init(&p->probing);
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                list_init(&p->environments[i]);
        *out = p;
        return 0;
}

void pool_free(struct pool *p) {
        if (!p)
                return;
        assert(pool_is_empty(p) && list_empty(&p->waiting));
        pool_forget_terminated(p);
        free(p);
}

void claim_init(struct claim *c, const struct claim_events *events, const char *name, uid_t uid) {
        *c = (struct claim){ .events = events, .name = name, .uid = uid };
        list_init(&c->link);
}

bool environment_is_for(const struct environment *e, uid_t uid) {
        return e->user == uid || e->user == POOL_NO_USER;
}

void environment_hold(struct environment *e, struct claim *c) {
        assert(environment_is_for(e, c->uid));
        e->user = c->uid;
        e->claim = c;
        environment_set_state(e, ENVIRONMENT_LEASED);
}

void pool_claim(struct pool *p, struct claim *c) {
        assert(c->state == CLAIM_NONE);
        c->since_us = p->clock();
        c->state = CLAIM_WAITING;
        c->number = ++p->n_claims;
        list_add_tail(&p->waiting, &c->link);
        p->n_waiting++;
}

void claim_leave_line(struct pool *p, struct claim *c) {
        list_remove(&c->link);
        p->n_waiting--;
        c->waited_us = p->clock() - c->since_us;
        c->state = CLAIM_NONE;
}

void claim_grant(struct pool *p, struct claim *c, struct environment *e) {
        claim_leave_line(p, c);
        c->state = CLAIM_GRANTED;
        c->environment = e;
        p->totals.granted++;
        p->totals.granted_warm += c->number > p->n_claims_ticked; /* the first tick that saw it had one for it */
        p->totals.wait_us += c->waited_us;
        e->uses++;
        environment_hold(e, c);
        (void)environment_write(e); /* else the next run takes it for less used than it is; pool_use() writes again */
        c->events->granted(c);
}

int pool_use(struct pool *p, struct claim *c, const char *workdir) {
        struct environment *e = c->environment;
        int r;

        assert(c->state == CLAIM_GRANTED);
        if (e->workdir)
                return 0;
        e->workdir = strdup(workdir);
        if (!e->workdir)
                return -ENOMEM;
        r = environment_write(e);
        if (r < 0)
                free(TAKE_PTR(e->workdir));
        return r;
}

void pool_retire(struct pool *p, struct claim *c) {
        (void)p;
        if (c->state == CLAIM_GRANTED)
                c->environment->retire = true;
}

void pool_release(struct pool *p, struct claim *c) {
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
        if (e->sandbox->state == SANDBOX_CREATING) /* it never answered since the restart */
                environment_end(e);
        else if (e->workdir)
                environment_clean(e);
        else
                environment_settle(e);
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

        list_for_each (e, &p->environments[ENVIRONMENT_CREATING], link)
                e->retire = e->adopted; /* it is as old as those, and has not answered yet */
        list_for_each (e, &p->environments[ENVIRONMENT_LEASED], link)
                e->retire = true;
        list_for_each (e, &p->environments[ENVIRONMENT_CLEANING], link)
                e->retire = true;
        list_for_each_safe (e, tmp, &p->environments[ENVIRONMENT_IDLE], link)
                environment_end(e);
        pool_retry(p);
}

void pool_look(struct pool *p, const struct environment *e) {
        int64_t next = clock_earlier(environment_idle_end(e), environment_probe_time(e));

        /* There may be room for those that were held back now. */
        p->idle_look_us = p->held_back ? p->clock() : clock_earlier(p->idle_look_us, next);
}

void pool_config_changed(struct pool *p) {
        static const enum environment_state live[] = { ENVIRONMENT_IDLE, ENVIRONMENT_LEASED, ENVIRONMENT_CLEANING };
        struct environment *e, *tmp;

        for (size_t i = 0; i < sizeof(live) / sizeof(live[0]); i++)
                list_for_each (e, &p->environments[live[i]], link)
                        e->retire_us = environment_retire_time(e);
        list_for_each_safe (e, tmp, &p->environments[ENVIRONMENT_IDLE], link)
                if (environment_is_used_up(e))
                        environment_end(e);
        p->look_us = p->idle_look_us = p->clock();
}

int pool_write(struct pool *p) {
        struct environment *e;
        int r = 0;

        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                list_for_each (e, &p->environments[i], link)
                        if (r == 0)
                                r = environment_write(e);
        return r;
}

void pool_leave(struct pool *p) {
        p->leaving = true;
        pool_stop(p);
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
                                           .user = e->user,
                                           .uses = e->uses,
                                           .created_us = e->created_us,
                                           .since_us = e->since_us,
                                           .retire_us = e->retire_us,
                                           .unanswered = e->adopted && e->sandbox->state == SANDBOX_CREATING,
                                   });
        }
}
