/* SPDX-License-Identifier: MIT */
#include "pool/environment/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "pool/environment/pool-body.h"
#include "pool/environment/restore.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

/* what an environment becomes */

/* An idle environment changed: tick in time for it. Environments that were held back may have room now. */
static void note_due(struct pool *p, const struct environment *e) {
        int64_t next = clock_earlier(environment_idle_end(e), probe_due(&e->probe));

        p->idle_due_us = p->held_back ? p->clock() : clock_earlier(p->idle_due_us, next);
}

/* Whether it is destroyed instead of being lent again. */
static bool is_used_up(const struct pool *p, const struct environment *e) {
        const struct config *c = p->config;

        if (p->stopping || e->retire || e->retire_us <= p->clock())
                return true;
        if (e->workdir && !config_owns_workdir(e->workdir))
                return true; /* jobs ran in a directory that is part of it, and a clean-up would remove that */
        if (e->uses == 0 && !e->workdir) /* of an earlier run, what was written last may be that a job ran there */
                return false;
        return sandbox_is_single_use(e->sandbox) || c->mode == MODE_DIRECT || c->reset == RESET_ENVIRONMENT ||
               (c->max_uses > 0 && e->uses >= c->max_uses);
}

/* An environment over max ends when it comes free. */
static bool is_one_too_many(const struct pool *p, const struct environment *e) {
        return e->uses > 0 && pool_count_all(p) - pool_count(p, ENVIRONMENT_ENDING) > p->config->max;
}

static void hold(struct claim *c, struct environment *e) {
        environment_lease(e, c);
        c->user->n_granted++;
}

static void give_back(struct claim *c) {
        environment_take_back(c->environment);
        c->user->n_granted--;
}

void pool_count_return(struct pool *p, enum environment_return how, const char *path) {
        struct result advice;

        if (!returns_count(&p->returns, how, path, &advice))
                return;
        log_warning("%s", advice.text);
        event_emit(p->environments.ring, "pool", "reset", "warning", NULL, advice.text);
}

/* It is free and clean: lend it again, or end it. */
static void settle(struct pool *p, struct environment *e) {
        if (is_used_up(p, e) || is_one_too_many(p, e)) {
                environment_terminate(e);
                return;
        }
        p->retire_due_us = clock_earlier(p->retire_due_us, e->retire_us);
        environment_set_idle(e);
        note_due(p, e);
}

/* It is free, and must be cleaned first. */
static void clean(struct pool *p, struct environment *e) {
        bool retired = is_used_up(p, e) || is_one_too_many(p, e);

        if (!retired && environment_clean(e) == 0)
                return;
        if (!p->stopping)
                pool_count_return(p, sandbox_is_single_use(e->sandbox) ? RETURN_SINGLE_USE
                                     : retired                         ? RETURN_RETIRED
                                                                       : RETURN_FAILED,
                                  NULL);
        environment_terminate(e);
}

/* No lease has it any more. */
static void free_again(struct pool *p, struct environment *e) {
        if (e->snapshot && !p->stopping)
                environment_wait(e);
        else if (e->workdir)
                clean(p, e);
        else
                settle(p, e);
}

static void lose(struct pool *p, struct environment *e, const struct result *why) {
        struct claim *c = e->claim;

        pool_touch(p);
        p->totals.died++;
        log_warning("environment=%s lease=%s: lost: %s", e->sandbox->id, c ? c->name : "-", why->text);
        event_emit(p->environments.ring, "environment", e->sandbox->id, "died", c ? c->name : NULL, why->text);
        if (c) {
                give_back(c);
                c->events->lost(c, why); /* first, so that the lease cancels its job */
        }
        environment_terminate(e);
}

/* events of environments */

static void on_created(void *owner, struct environment *e, const struct result *r) {
        struct pool *p = owner;

        pool_touch(p);
        if (result_ok(r)) {
                p->totals.created++;
                breaker_succeeded(&p->breaker, e->since_us); /* since it was sent */
                settle(p, e);
                return;
        }
        p->totals.create_failures++;
        breaker_failed(&p->breaker, e->created_us, r);
        environment_terminate(e);
}

static void on_adopted(void *owner, struct environment *e) {
        struct pool *p = owner;

        pool_touch(p);
        p->totals.adopted++;
        if (e->claim)
                e->claim->events->granted(e->claim);
        else
                free_again(p, e);
}

static void on_died(void *owner, struct environment *e, const struct result *why) {
        lose(owner, e, why);
}

static void on_cleaned(void *owner, struct environment *e, const struct result *r,
                       const struct sandbox_changes *changes) {
        const char *changed = sandbox_changes_first(changes);
        struct pool *p = owner;

        pool_touch(p);
        pool_count_return(p, !result_ok(r) ? RETURN_FAILED : changed ? RETURN_CHANGED : RETURN_CLEAN, changed);
        if (!result_ok(r)) {
                p->totals.clean_failures++;
                environment_terminate(e);
        } else if (changed) {
                p->totals.changed++;
                environment_terminate(e);
        } else {
                p->totals.cleaned++;
                settle(p, e);
        }
}

static void on_snapshot_over(void *owner, struct environment *e) {
        struct pool *p = owner;

        pool_touch(p);
        if (e->state == ENVIRONMENT_CLEANING && e->waits && e->sandbox->state == SANDBOX_LIVE)
                free_again(p, e);
}

static void on_probe_over(void *owner, struct environment *e) {
        struct pool *p = owner;

        pool_touch(p);
        note_due(p, e);
}

static void on_gone(void *owner, struct environment *e, const struct result *r) {
        struct pool *p = owner;

        pool_touch(p);
        p->totals.destroyed++;
        p->totals.destroy_failures += !result_ok(r);
        if (result_ok(r) && !e->left)
                orphans_note_terminated(&p->fleet->orphans, e->nonce);
}

static const struct environment_events environment_events = {
        .created = on_created,
        .adopted = on_adopted,
        .died = on_died,
        .cleaned = on_cleaned,
        .snapshot_over = on_snapshot_over,
        .probe_over = on_probe_over,
        .gone = on_gone,
};

/* the pool */

int pool_new(struct pool **out, const struct pool_parts *parts) {
        struct pool *p = calloc(1, sizeof(*p));

        if (!p)
                return -ENOMEM;
        p->fleet = parts->fleet;
        p->config = parts->config;
        p->clock = parts->clock;
        p->random = parts->seed;
        p->retire_due_us = p->idle_due_us = USEC_NEVER;
        p->environments = (struct environments){
                .fleet = parts->fleet,
                .backend = parts->backend,
                .config = parts->config,
                .ring = parts->ring,
                .journal = parts->journal,
                .serial = parts->serial,
                .random = &p->random,
                .clock = parts->clock,
                .events = &environment_events,
                .owner = p,
        };
        environments_init(&p->environments);
        claim_line_init(&p->line);
        breaker_init(&p->breaker, backend_name(parts->fleet->backend), parts->ring, parts->clock, &p->random);
        fleet_join(p->fleet, &p->member, &p->environments, &p->due_us);
        *out = p;
        return 0;
}

void pool_free(struct pool *p) {
        if (!p)
                return;
        assert(pool_is_empty(p) && p->line.n == 0 && list_empty(&p->line.users));
        fleet_leave(p->fleet, &p->member);
        returns_deinit(&p->returns);
        free(p);
}

/* How the pool of a row is found. */
struct finder {
        struct pool *(*find)(void *data, uint64_t serial);
        void *data;
};

static struct environments *find_set(void *data, uint64_t serial) {
        const struct finder *f = data;
        struct pool *p = f->find(f->data, serial);

        return p ? &p->environments : NULL;
}

int pools_restore_environments(struct fleet *f, struct journal *j, struct pool *(*find)(void *data, uint64_t serial),
                               void *data) {
        struct finder finder = { find, data };
        int r = environments_restore(j, find_set, &finder);

        orphans_start(&f->orphans);
        return r;
}

/* claims */

int pool_init_claim(struct pool *p, struct claim *c, const struct claim_events *events, const char *name, uid_t uid) {
        return claim_init(c, &p->line, events, name, uid);
}

void pool_deinit_claim(struct pool *p, struct claim *c) {
        claim_deinit(c, &p->line);
}

void pool_claim(struct pool *p, struct claim *c) {
        pool_touch(p);
        claim_line_join(&p->line, c, p->clock());
}

bool pool_restore_claim(struct pool *p, struct claim *c, const char *nonce) {
        struct environment *e = environments_find(p->fleet, nonce);

        if (!e || e->claim || e->state != ENVIRONMENT_CREATING || !environment_is_for(e, c->uid))
                return false;
        pool_touch(p);
        c->since_us = p->clock();
        if (e->uses == 0)
                e->uses = 1; /* it was lent, and that could not be written */
        hold(c, e);
        return true;
}

void pool_remove_claim(struct pool *p, struct claim *c) {
        claim_line_leave(&p->line, c, p->clock());
}

void pool_grant(struct pool *p, struct claim *c, struct environment *e) {
        pool_remove_claim(p, c);
        claim_line_served(&p->line, c);
        p->totals.granted++;
        p->totals.granted_warm += c->number > p->line.n_seen; /* no tick saw it without one */
        p->totals.wait_us += c->waited_us;
        if (e->uses > 0)
                fleet_lent_again(p->fleet, &p->member);
        e->uses++;
        hold(c, e);
        (void)environment_write(e); /* if this fails, the next run counts too few uses; pool_use() writes again */
        c->events->granted(c);
}

int pool_use(struct pool *p, struct claim *c, const char *workdir) {
        (void)p;
        assert(c->state == CLAIM_GRANTED);
        return environment_use(c->environment, workdir);
}

void pool_retire(struct pool *p, struct claim *c) {
        (void)p;
        if (c->state == CLAIM_GRANTED)
                c->environment->retire = true;
}

void pool_release(struct pool *p, struct claim *c) {
        struct environment *e = c->environment;

        pool_touch(p);
        switch (c->state) {
        case CLAIM_NONE:
                return;
        case CLAIM_WAITING:
                pool_remove_claim(p, c);
                return;
        case CLAIM_GRANTED:
                break;
        }

        give_back(c);
        if (e->sandbox->state == SANDBOX_CREATING) /* it never answered since the restart */
                environment_terminate(e);
        else
                free_again(p, e);
}

void pool_condemn(struct pool *p, struct claim *c, const struct result *why) {
        assert(c->state == CLAIM_GRANTED);
        lose(p, c->environment, why);
}

/* the list of the provider */

void pool_found(struct pool *p, const struct sandbox_found *found) {
        pool_touch(p);
        p->totals.orphans += orphans_found(&p->fleet->orphans, found);
}

void pool_listed(struct pool *p, const struct result *r) {
        orphans_listed(&p->fleet->orphans, r);
}

/* commands */

void pool_prewarm(struct pool *p, unsigned n) {
        pool_touch(p);
        p->prewarm = n < p->config->max ? n : p->config->max;
}

void pool_recycle(struct pool *p) {
        struct environment *e, *tmp;

        pool_touch(p);
        list_for_each (e, &p->environments.in[ENVIRONMENT_CREATING], link)
                e->retire = e->adopted; /* it is as old as those, and has not answered yet */
        list_for_each (e, &p->environments.in[ENVIRONMENT_LEASED], link)
                e->retire = true;
        list_for_each (e, &p->environments.in[ENVIRONMENT_CLEANING], link)
                e->retire = true;
        list_for_each_safe (e, tmp, &p->environments.in[ENVIRONMENT_IDLE], link)
                environment_terminate(e);
        pool_retry(p);
}

void pool_retry(struct pool *p) {
        pool_touch(p);
        breaker_reset(&p->breaker);
}

bool pool_wants_backend(const struct pool *p) {
        return p->wants_backend;
}

void pool_set_backend(struct pool *p, struct backend *backend) {
        pool_touch(p);
        p->environments.backend = backend;
}

void pool_backend_failed(struct pool *p, const struct result *why) {
        pool_touch(p);
        breaker_refuse(&p->breaker, why);
}

void pool_backend_ended(struct pool *p, const struct result *why) {
        pool_touch(p);
        breaker_end(&p->breaker, why);
}

void pool_config_changed(struct pool *p) {
        static const enum environment_state live[] = { ENVIRONMENT_IDLE, ENVIRONMENT_LEASED, ENVIRONMENT_CLEANING };
        struct environment *e, *tmp;

        pool_touch(p);
        for (size_t i = 0; i < sizeof(live) / sizeof(live[0]); i++)
                list_for_each (e, &p->environments.in[live[i]], link)
                        environment_update_retirement(e);
        list_for_each_safe (e, tmp, &p->environments.in[ENVIRONMENT_IDLE], link)
                if (is_used_up(p, e))
                        environment_terminate(e);
        p->retire_due_us = p->idle_due_us = p->clock();
}

int pool_write(struct pool *p) {
        struct environment *e;
        int r = 0;

        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                list_for_each (e, &p->environments.in[i], link)
                        if (r == 0)
                                r = environment_write(e);
        return r;
}

void pool_leave(struct pool *p) {
        p->environments.leaving = true;
        pool_stop(p);
}

void pool_stop(struct pool *p) {
        struct environment *e, *tmp;

        pool_touch(p);
        p->stopping = true;
        fleet_stop_waiting(&p->member);
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                if (i != ENVIRONMENT_LEASED && i != ENVIRONMENT_ENDING)
                        list_for_each_safe (e, tmp, &p->environments.in[i], link)
                                environment_terminate(e);
}

bool pool_is_empty(const struct pool *p) {
        return pool_count_all(p) == 0;
}

unsigned pool_count(const struct pool *p, enum environment_state state) {
        return p->environments.count[state];
}

unsigned pool_count_all(const struct pool *p) {
        return environments_count(&p->environments);
}

unsigned pool_count_waiting(const struct pool *p) {
        return p->line.n;
}

const struct pool_totals *pool_totals(const struct pool *p) {
        return &p->totals;
}

const struct returns *pool_returns(const struct pool *p) {
        return &p->returns;
}

const struct backend *pool_backend(const struct pool *p) {
        return p->fleet->backend;
}

const struct result *pool_trouble(const struct pool *p) {
        return breaker_trouble(&p->breaker);
}

void pool_each_environment(const struct pool *p, void (*each)(void *data, const struct environment_info *info),
                           void *data) {
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++) {
                const struct environment *e;

                list_for_each (e, &p->environments.in[i], link)
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
