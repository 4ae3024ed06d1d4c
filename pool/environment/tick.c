/* SPDX-License-Identifier: MIT */

/*
 * One turn of the pool: everything that is due, in such an order that each
 * step makes room for the next.
 */

#include "pool/environment/pool-body.h"

#include <string.h>

#include "pool/environment/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

/* When the next create may be sent. */
static int64_t create_from(const struct pool *p) {
        int64_t from = breaker_create_from(&p->breaker);

        return p->fleet->paced_us > from ? p->fleet->paced_us : from;
}

static unsigned create_limit(const struct pool *p) {
        return breaker_create_limit(&p->breaker, (unsigned)p->fleet->config->creates);
}

/* Give up clean-ups that do not end. The list is in order of their beginning. */
static int64_t tick_cleaning(struct pool *p, int64_t now) {
        struct environment *e;

        while ((e = list_first(&p->environments.in[ENVIRONMENT_CLEANING], struct environment, link))) {
                if (e->deadline_us > now)
                        return e->deadline_us;
                p->totals.clean_failures++;
                pool_count_return(p, RETURN_FAILED, NULL);
                log_warning("environment=%s: clean-up takes too long, destroying it", e->sandbox->id);
                event_emit(p->environments.ring, "environment", e->sandbox->id, "clean-failed", NULL,
                           "it takes too long");
                environment_terminate(e);
        }
        return USEC_NEVER;
}

/* End idle environments that are too old to be lent. */
static int64_t tick_old(struct pool *p, int64_t now) {
        struct list *idle = &p->environments.in[ENVIRONMENT_IDLE];
        struct environment *e, *tmp;

        if (p->retire_due_us > now)
                return p->retire_due_us;
        p->retire_due_us = USEC_NEVER;
        list_for_each_safe (e, tmp, idle, link)
                if (e->retire_us <= now)
                        environment_terminate(e);
                else if (e->retire_us < p->retire_due_us)
                        p->retire_due_us = e->retire_us;
        return p->retire_due_us;
}

/* End environments that were idle for too long, down to min, and probe the others. The one idle longest is last. */
static int64_t tick_idle(struct pool *p, int64_t now) {
        struct environment *e, *tmp;

        if (p->idle_due_us > now)
                return p->idle_due_us;
        p->idle_due_us = USEC_NEVER;
        p->held_back = false;
        list_for_each_reverse_safe (e, tmp, &p->environments.in[ENVIRONMENT_IDLE], link) {
                bool stayed_too_long = environment_idle_end(e) <= now, probe = probe_due(&e->probe) <= now;

                if (stayed_too_long && pool_count(p, ENVIRONMENT_IDLE) > p->config->min) {
                        environment_terminate(e);
                        continue;
                }
                if (probe && p->environments.probes.n_running < PROBES_AT_ONCE) {
                        probe_start(&e->probe, e->sandbox);
                        probe = false;
                }
                p->held_back |= stayed_too_long || probe;
                if (!stayed_too_long)
                        p->idle_due_us = clock_earlier(p->idle_due_us, environment_idle_end(e));
                if (!probe)
                        p->idle_due_us = clock_earlier(p->idle_due_us, probe_due(&e->probe));
        }
        return p->idle_due_us;
}

/* How many more environments the user may get, by max_per_user. */
static unsigned count_allowed(const struct pool *p, const struct claim_user *user) {
        uint64_t most = p->config->max_per_user;

        if (most == 0)
                return UINT32_MAX;
        return user->n_granted < most ? (unsigned)most - user->n_granted : 0;
}

/* Claims in line that max_per_user does not hold back. */
static unsigned count_allowed_claims(const struct pool *p) {
        const struct claim_user *user;
        unsigned n = 0;

        if (p->config->max_per_user == 0)
                return p->line.n;
        list_for_each (user, &p->line.users, link)
                n += user->n_waiting < count_allowed(p, user) ? user->n_waiting : count_allowed(p, user);
        return n;
}

/* Before a pass of the line that asks may_be_next(). */
static void begin_pass(struct pool *p) {
        struct claim_user *user;

        if (p->config->max_per_user > 0)
                list_for_each (user, &p->line.users, link)
                        user->n_ahead = 0;
}

/* Whether the claim may get an environment, besides those of its user that were counted before it in this pass. */
static bool may_be_next(const struct pool *p, const struct claim *c) {
        return p->config->max_per_user == 0 || c->user->n_ahead < count_allowed(p, c->user);
}

/*
 * An idle environment for this user, or NULL. The newest that the user had before, so that unused ones are left for
 * others; else the newest unused one.
 */
static struct environment *find_idle(const struct pool *p, uid_t uid) {
        struct environment *e, *unused = NULL;

        list_for_each (e, &p->environments.in[ENVIRONMENT_IDLE], link) {
                if (e->user == uid)
                        return e;
                if (e->user == ENVIRONMENT_NO_USER && !unused)
                        unused = e;
        }
        return unused;
}

/* Places within max for new environments: free ones, and those of environments that are being created or ended. */
static int64_t count_places(const struct pool *p) {
        const unsigned *count = p->environments.count;

        if (p->config->mode == MODE_DIRECT)
                return INT64_MAX;
        return (int64_t)p->config->max - count[ENVIRONMENT_IDLE] - count[ENVIRONMENT_LEASED] -
               count[ENVIRONMENT_CLEANING];
}

/* End the environment that has been idle longest, which another user had, unless no create could follow. */
static bool make_place(struct pool *p, const struct claim *c, int64_t now) {
        struct environment *oldest = list_last(&p->environments.in[ENVIRONMENT_IDLE], struct environment, link);

        if (!oldest || create_from(p) > now ||
            pool_count(p, ENVIRONMENT_CREATING) + pool_count(p, ENVIRONMENT_ENDING) >= create_limit(p))
                return false;
        log_info("environment=%s lease=%s: ended to make room for another user", oldest->sandbox->id, c->name);
        environment_terminate(oldest);
        return true;
}

/*
 * In the order of the line. A claim that finds only what other users had gets the next place for a new one, so that
 * later claims cannot keep it waiting with environments of their own. When a create can be sent, if that is in the way.
 */
static int64_t tick_grant(struct pool *p, int64_t now) {
        int64_t places = 0; /* that the claims before need */
        struct claim *c, *tmp;

        begin_pass(p);
        list_for_each_safe (c, tmp, &p->line.claims, link) {
                struct environment *e;

                if (list_empty(&p->environments.in[ENVIRONMENT_IDLE]))
                        break;
                if (!may_be_next(p, c))
                        continue;
                e = find_idle(p, c->uid);
                if (e && e->uses > 0 && fleet_must_yield(p->fleet, &p->member))
                        break;
                if (e) {
                        pool_grant(p, c, e);
                        continue;
                }
                c->user->n_ahead++;
                places++;
                while (places > count_places(p) && make_place(p, c, now))
                        ;
        }
        return places > 0 && places > count_places(p) && create_from(p) > now ? create_from(p) : USEC_NEVER;
}

/* How many claims have waited longer than wait, as far as it matters, and when the next one will have. */
static unsigned count_overdue(struct pool *p, int64_t now, int64_t *next) {
        unsigned n = 0;
        struct claim *c;

        begin_pass(p);
        list_for_each (c, &p->line.by_age, link_age) {
                int64_t due = clock_after(c->since_us, p->config->wait_us);

                if (due > now) {
                        *next = due;
                        break;
                }
                if (!may_be_next(p, c))
                        continue;
                c->user->n_ahead++;
                if (++n == p->config->creates)
                        break;
        }
        return n;
}

static void say_why_overdue(const struct pool *p, const struct claim *c, struct result *why) {
        const struct result *trouble = breaker_trouble(&p->breaker);
        long long waited = p->config->wait_us / USEC_PER_SEC;

        if (count_allowed(p, c->user) == 0)
                result_set(why, RESULT_TIMEOUT,
                           "waited %lld s for an environment; leases of uid %u hold %u, as many as max_per_user allows; "
                           "release a lease, or raise max_per_user or wait",
                           waited, (unsigned)c->uid, c->user->n_granted);
        else if (fleet_is_full_for(p->fleet, &p->member))
                result_set(why, RESULT_TIMEOUT,
                           "waited %lld s for an environment; the pools have as many as max_total=%u allows; "
                           "release a lease, or raise max_total or wait",
                           waited, (unsigned)p->fleet->config->max_total);
        else if (trouble && pool_count_all(p) < p->config->max)
                result_set(why, RESULT_TIMEOUT, "waited %lld s for an environment; the newest create failed: %s", waited,
                           trouble->text);
        else
                result_set(why, RESULT_TIMEOUT,
                           "waited %lld s for an environment; all %u are in use%s%s; "
                           "release a lease, or raise max or wait",
                           waited, (unsigned)p->config->max, trouble ? ", and the newest create failed: " : "",
                           trouble ? trouble->text : "");
}

/* Whether max_per_user keeps the claim waiting, and how many claims of its user are before it. */
static bool is_held_back(const struct pool *p, const struct claim *c, unsigned *n_before) {
        const struct claim *other;

        *n_before = 0;
        list_for_each (other, &c->user->waiting, link_user) {
                if (other == c)
                        break;
                ++*n_before;
        }
        return *n_before >= count_allowed(p, c->user);
}

bool pool_explain_wait(const struct pool *p, const struct claim *c, struct result *why) {
        const struct result *trouble = breaker_trouble(&p->breaker);
        unsigned n_before;

        if (c->state != CLAIM_WAITING)
                return false;
        if (is_held_back(p, c, &n_before)) {
                result_set(why, RESULT_BUSY,
                           "waits because of max_per_user=%u: leases of uid %u hold %u, and %u wait before this "
                           "one; release a lease, or raise max_per_user",
                           (unsigned)p->config->max_per_user, (unsigned)c->uid, c->user->n_granted, n_before);
                return true;
        }
        if (trouble) {
                *why = *trouble;
                return true;
        }
        if (!fleet_is_full_for(p->fleet, &p->member))
                return false;
        result_set(why, RESULT_BUSY, "waits because of max_total=%u, the environments of all pools; release a lease, or "
                   "raise max_total",
                   (unsigned)p->fleet->config->max_total);
        return true;
}

/* Claims fail that have waited longer than wait. */
static void fail_overdue(struct pool *p, int64_t now) {
        struct result why;
        struct claim *c;

        while ((c = list_first(&p->line.by_age, struct claim, link_age)) &&
               clock_after(c->since_us, p->config->wait_us) <= now) {
                say_why_overdue(p, c, &why);
                pool_remove_claim(p, c);
                c->events->failed(c, &why);
        }
}

static bool any_is_for(const struct list *environments, uid_t uid) {
        const struct environment *e;

        list_for_each (e, environments, link)
                if (environment_is_for(e, uid))
                        return true;
        return false;
}

/* Whether one that is in use may be lent to this user afterwards. */
static bool any_may_come_back(const struct list *environments, uid_t uid) {
        const struct environment *e;

        list_for_each (e, environments, link)
                if (environment_is_for(e, uid) && !sandbox_is_single_use(e->sandbox))
                        return true;
        return false;
}

/* Whether there is an environment that a user could get without a create. */
static bool one_may_come_free(const struct pool *p, uid_t uid) {
        const struct config *c = p->config;
        bool lent_again = c->mode == MODE_POOL && c->reset != RESET_ENVIRONMENT && c->max_uses != 1 && !*c->workdir;
        const struct list *in = p->environments.in;

        return pool_count(p, ENVIRONMENT_CREATING) > 0 || any_is_for(&in[ENVIRONMENT_IDLE], uid) ||
               (lent_again &&
                (any_may_come_back(&in[ENVIRONMENT_LEASED], uid) || any_may_come_back(&in[ENVIRONMENT_CLEANING], uid)));
}

/*
 * While creates are stopped, waiting claims fail, unless an existing environment can come free for them. A claim that
 * max_per_user holds back waits for a release, not for a create.
 */
static void fail_hopeless(struct pool *p, int64_t now) {
        struct result why;
        struct claim *c, *tmp;

        if (!breaker_refuses(&p->breaker, now))
                return;
        why = p->breaker.trouble; /* which may change while the claims fail */
        begin_pass(p);
        list_for_each_safe (c, tmp, &p->line.claims, link) {
                if (!may_be_next(p, c))
                        continue;
                if (one_may_come_free(p, c->uid)) {
                        c->user->n_ahead++;
                        continue;
                }
                pool_remove_claim(p, c);
                c->events->failed(c, &why);
        }
}

static int create_one(struct pool *p) {
        int r = environment_create(&p->environments);
        struct result why;

        if (r < 0) {
                result_set(&why, RESULT_FAILED, "environment not created: %s", strerror(-r));
                breaker_put_off(&p->breaker, p->clock(), &why);
                return r;
        }
        fleet_created(p->fleet, &p->member, p->clock());
        if (p->config->mode == MODE_POOL && pool_count_all(p) > p->config->max)
                p->totals.oversubscribed++;
        return 0;
}

/* How many environments to create. */
struct wanted {
        unsigned for_claims; /* that wait */
        unsigned warm;       /* besides, to keep min ready */
};

static struct wanted count_wanted(const struct pool *p, unsigned overdue) {
        const unsigned *count = p->environments.count;
        unsigned all = pool_count_all(p), max = p->config->max, room = all < max ? max - all : 0;
        unsigned waiting = count_allowed_claims(p), warm, want_warm;
        struct wanted wanted = {};

        if (p->config->mode == MODE_DIRECT)
                room = UINT32_MAX;

        /* For waiting claims as far as there is room, and for overdue ones in any case; */
        wanted.for_claims = waiting > count[ENVIRONMENT_CREATING] ? waiting - count[ENVIRONMENT_CREATING] : 0;
        if (wanted.for_claims > room)
                wanted.for_claims = room;
        overdue = overdue > count[ENVIRONMENT_CREATING] ? overdue - count[ENVIRONMENT_CREATING] : 0;
        if (wanted.for_claims < overdue)
                wanted.for_claims = overdue;

        /* and to keep min ready, within max. */
        warm = count[ENVIRONMENT_IDLE] + count[ENVIRONMENT_CLEANING] +
               (count[ENVIRONMENT_CREATING] > waiting ? count[ENVIRONMENT_CREATING] - waiting : 0);
        want_warm = p->config->min > p->prewarm ? p->config->min : p->prewarm;
        if (want_warm > warm && room > wanted.for_claims) {
                room -= wanted.for_claims;
                wanted.warm = room < want_warm - warm ? room : want_warm - warm;
        }
        return wanted;
}

static int64_t tick_create(struct pool *p, int64_t now, unsigned overdue) {
        const unsigned *count = p->environments.count;
        struct wanted wanted = count_wanted(p, overdue);
        bool any = wanted.for_claims + wanted.warm > 0;
        int64_t from = breaker_create_from(&p->breaker);

        p->wants_backend = any && from <= now && !p->environments.backend;
        if (wanted.for_claims == 0 || p->wants_backend || from > now || count[ENVIRONMENT_CREATING] >= create_limit(p))
                fleet_stop_waiting(&p->member);
        if (p->wants_backend)
                return USEC_NEVER;
        if (any && from > now)
                return from;
        while (wanted.for_claims + wanted.warm > 0 && count[ENVIRONMENT_CREATING] < create_limit(p)) {
                if (wanted.for_claims > 0 ? !fleet_may_create(p->fleet, &p->member, now)
                                          : !fleet_may_create_warm(p->fleet, &p->member, now)) {
                        if (p->fleet->paced_us > now)
                                return p->fleet->paced_us;
                        break;
                }
                if (create_one(p) < 0)
                        return create_from(p);
                if (wanted.for_claims > 0)
                        wanted.for_claims--;
                else
                        wanted.warm--;
        }
        if (count[ENVIRONMENT_IDLE] + count[ENVIRONMENT_CREATING] >= p->prewarm ||
            pool_count_all(p) - count[ENVIRONMENT_ENDING] >= p->config->max)
                p->prewarm = 0; /* prewarm is done once, as far as there is room */
        return USEC_NEVER;
}

/*
 * End idle environments beyond max, after max was lowered or a waiting claim left, the oldest first. In mode direct
 * only idle environments count, because those in use have no maximum.
 */
static void tick_shrink(struct pool *p) {
        struct list *idle = &p->environments.in[ENVIRONMENT_IDLE];
        const unsigned *count = p->environments.count;

        while (!list_empty(idle)) {
                unsigned n = p->config->mode == MODE_DIRECT ? count[ENVIRONMENT_IDLE]
                                                            : pool_count_all(p) - count[ENVIRONMENT_ENDING];

                if (n <= p->config->max)
                        break;
                environment_terminate(list_last(idle, struct environment, link));
        }
}

/* The line: grant, fail, and how many claims are overdue after that. */
static int64_t tick_line(struct pool *p, int64_t now, unsigned *overdue) {
        int64_t next, due = USEC_NEVER;

        *overdue = 0;
        if (p->line.n == 0)
                return USEC_NEVER;
        next = tick_grant(p, now);
        p->line.n_seen = p->line.n_joined;
        fail_hopeless(p, now);
        if (!p->config->oversubscribe)
                fail_overdue(p, now);
        *overdue = count_overdue(p, now, &due);
        return clock_earlier(next, due);
}

static int64_t tick_all(struct pool *p, int64_t now) {
        int64_t next = tick_cleaning(p, now);
        unsigned overdue;

        if (p->stopping)
                return next;
        probes_end_late(&p->environments.probes, now);
        next = clock_earlier(next, tick_old(p, now));
        next = clock_earlier(next, tick_line(p, now, &overdue));
        next = clock_earlier(next, tick_create(p, now, overdue));
        tick_shrink(p);
        next = clock_earlier(next, tick_idle(p, now));
        return clock_earlier(next, probes_due(&p->environments.probes));
}

int64_t pool_tick(struct pool *p, int64_t now) {
        int64_t next;

        if (p->due_us > now)
                return p->due_us;
        p->due_us = USEC_NEVER;
        next = tick_all(p, now);
        p->due_us = clock_earlier(p->due_us, next); /* what it did may need another one */
        return p->due_us;
}
