/* SPDX-License-Identifier: MIT */

/*
 * One turn of the pool: everything that is due, in the order in which one
 * thing makes room for the next.
 */

#include "pool/environment/internal.h"

#include <string.h>

#include "pool/environment/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

/* Give up on clean-ups that do not end. They were begun in order, so the first is the oldest. */
static int64_t tick_cleaning(struct pool *p, int64_t now) {
        struct environment *e;

        while ((e = list_first(&p->environments[ENVIRONMENT_CLEANING], struct environment, link))) {
                if (e->deadline_us > now)
                        return e->deadline_us;
                p->totals.clean_failures++;
                log_warning("environment=%s: clean-up takes too long, destroying it", e->sandbox->id);
                event_emit(p->events, "environment", e->sandbox->id, "clean-failed", NULL, "it takes too long");
                environment_end(e);
        }
        return USEC_NEVER;
}

/* End idle environments that are too old to be lent. */
static int64_t tick_old(struct pool *p, int64_t now) {
        struct list *idle = &p->environments[ENVIRONMENT_IDLE];
        struct environment *e, *tmp;

        if (p->look_us > now)
                return p->look_us;
        p->look_us = USEC_NEVER;
        list_for_each_safe (e, tmp, idle, link)
                if (e->retire_us <= now)
                        environment_end(e);
                else if (e->retire_us < p->look_us)
                        p->look_us = e->retire_us;
        return p->look_us;
}

/* End those that were idle for too long, down to min, and probe the others. Who is idle longest stands last. */
static int64_t tick_idle(struct pool *p, int64_t now) {
        struct environment *e, *tmp;

        if (p->idle_look_us > now)
                return p->idle_look_us;
        p->idle_look_us = USEC_NEVER;
        p->held_back = false;
        list_for_each_reverse_safe (e, tmp, &p->environments[ENVIRONMENT_IDLE], link) {
                bool stayed_too_long = environment_idle_end(e) <= now, probe = environment_probe_time(e) <= now;

                if (stayed_too_long && p->count[ENVIRONMENT_IDLE] > p->config->min) {
                        environment_end(e);
                        continue;
                }
                if (probe && p->n_probing < PROBES_AT_ONCE) {
                        environment_probe(e);
                        probe = false;
                }
                p->held_back |= stayed_too_long || probe;
                if (!stayed_too_long)
                        p->idle_look_us = clock_earlier(p->idle_look_us, environment_idle_end(e));
                if (!probe)
                        p->idle_look_us = clock_earlier(p->idle_look_us, environment_probe_time(e));
        }
        return p->idle_look_us;
}

/* An idle one for this user, or NULL: one that they had before, so that others find one that nobody had; the newest. */
static struct environment *find_idle(const struct pool *p, uid_t uid) {
        struct environment *e, *unused = NULL;

        list_for_each (e, &p->environments[ENVIRONMENT_IDLE], link) {
                if (e->user == uid)
                        return e;
                if (e->user == POOL_NO_USER && !unused)
                        unused = e;
        }
        return unused;
}

/* Places within max for new environments: where one is being made or ended, or nothing is. */
static int64_t count_places(const struct pool *p) {
        const unsigned *count = p->count;

        if (p->config->mode == MODE_DIRECT)
                return INT64_MAX;
        return (int64_t)p->config->max - count[ENVIRONMENT_IDLE] - count[ENVIRONMENT_LEASED] - count[ENVIRONMENT_CLEANING];
}

/* End the environment that is idle longest, which is another user's. Not while no create could follow. */
static bool make_place(struct pool *p, const struct claim *c, int64_t now) {
        struct environment *oldest = list_last(&p->environments[ENVIRONMENT_IDLE], struct environment, link);

        if (!oldest || pool_creates_from(p) > now ||
            p->count[ENVIRONMENT_CREATING] + p->count[ENVIRONMENT_ENDING] >= pool_creates_most(p))
                return false;
        log_info("environment=%s lease=%s: ended to make room for another user", oldest->sandbox->id, c->name);
        environment_end(oldest);
        return true;
}

/*
 * First come, first served. A claim that finds only what other users had gets the next place for a new one, so that
 * later claims cannot keep it waiting with environments of their own. When a create can be sent, if that is in the way.
 */
static int64_t tick_grant(struct pool *p, int64_t now) {
        int64_t places = 0; /* that those who stand before need */
        struct claim *c, *tmp;

        list_for_each_safe (c, tmp, &p->waiting, link) {
                struct environment *e;

                if (list_empty(&p->environments[ENVIRONMENT_IDLE]))
                        break;
                e = find_idle(p, c->uid);
                if (e) {
                        claim_grant(p, c, e);
                        continue;
                }
                places++;
                while (places > count_places(p) && make_place(p, c, now))
                        ;
        }
        return places > 0 && places > count_places(p) && pool_creates_from(p) > now ? pool_creates_from(p) : USEC_NEVER;
}

/* How many claims, as far as it matters, have waited past their time, and when the next one has. */
static unsigned count_overdue(struct pool *p, int64_t now, int64_t *next) {
        unsigned n = 0;
        struct claim *c;

        list_for_each (c, &p->waiting, link) {
                int64_t due = clock_after(c->since_us, p->config->wait_us);

                if (due > now) {
                        *next = due;
                        break;
                }
                if (++n == p->config->creates)
                        break;
        }
        return n;
}

/* Who waited past their time gets nothing. They stand first in line. */
static void fail_overdue(struct pool *p, int64_t now) {
        struct result why;
        struct claim *c;

        while ((c = list_first(&p->waiting, struct claim, link)) &&
               clock_after(c->since_us, p->config->wait_us) <= now) {
                result_set(&why, RESULT_TIMEOUT,
                           "waited %lld s for an environment; all %u are in use%s%s; release a lease, or raise max or wait",
                           (long long)(p->config->wait_us / USEC_PER_SEC), (unsigned)p->config->max,
                           p->trouble.code ? ", and the newest create failed: " : "",
                           p->trouble.code ? p->trouble.text : "");
                claim_leave_line(p, c);
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

/* Whether there is an environment that a user could get without a create. */
static bool one_may_come_free(const struct pool *p, uid_t uid) {
        const struct config *c = p->config;
        bool lent_again = c->mode == MODE_POOL && c->reset == RESET_WORKDIR && c->max_uses != 1;

        return p->count[ENVIRONMENT_CREATING] > 0 || any_is_for(&p->environments[ENVIRONMENT_IDLE], uid) ||
               (lent_again && (any_is_for(&p->environments[ENVIRONMENT_LEASED], uid) ||
                               any_is_for(&p->environments[ENVIRONMENT_CLEANING], uid)));
}

/* While creates are stopped, those who wait are told, unless there is something else for them to wait for. */
static void fail_hopeless(struct pool *p, int64_t now) {
        struct result why;
        struct claim *c, *tmp;

        if (!p->broken || p->trial_us <= now)
                return;
        why = p->trouble; /* which may change while they are told */
        list_for_each_safe (c, tmp, &p->waiting, link)
                if (!one_may_come_free(p, c->uid)) {
                        claim_leave_line(p, c);
                        c->events->failed(c, &why);
                }
}

static int create_one(struct pool *p) {
        int r = environment_create(p);
        struct result why;

        if (r < 0) {
                result_set(&why, RESULT_FAILED, "environment not created: %s", strerror(-r));
                pool_put_off_creates(p, p->clock(), &why);
        }
        return r;
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

        if (wanted > 0 && pool_creates_from(p) > now)
                return pool_creates_from(p);
        for (; wanted > 0 && count[ENVIRONMENT_CREATING] < pool_creates_most(p); wanted--)
                if (create_one(p) < 0)
                        return pool_creates_from(p);
        if (count[ENVIRONMENT_IDLE] + count[ENVIRONMENT_CREATING] >= p->prewarm ||
            pool_count_all(p) - count[ENVIRONMENT_ENDING] >= max)
                p->prewarm = 0; /* asked for once, done once, as far as there is room */
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
        int64_t now = p->clock(), next, due = USEC_NEVER;
        unsigned overdue;

        next = tick_cleaning(p, now);
        if (p->stopping)
                return next;

        next = clock_earlier(next, pool_tick_list(p, now));
        pool_end_late_probes(p, now);
        next = clock_earlier(next, tick_old(p, now));
        next = clock_earlier(next, tick_grant(p, now));
        p->n_claims_ticked = p->n_claims;
        fail_hopeless(p, now);
        if (!p->config->oversubscribe)
                fail_overdue(p, now);
        overdue = count_overdue(p, now, &due);
        next = clock_earlier(next, due);
        next = clock_earlier(next, tick_create(p, now, overdue));
        tick_shrink(p);
        next = clock_earlier(next, tick_idle(p, now));
        if (journal_is_stale(p->journal))
                next = now; /* one of these writes went well again: leases_tick() has to put the others */
        return clock_earlier(next, pool_probes_due(p));
}
