/* SPDX-License-Identifier: MIT */

/*
 * One turn of the pool: everything that is due, in the order in which one
 * thing makes room for the next.
 */

#include "pool/pool-internal.h"

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

/* End those that were idle for too long, down to min. The one that is idle longest stands last. */
static int64_t tick_idle(struct pool *p, int64_t now) {
        struct environment *e;

        while (p->count[ENVIRONMENT_IDLE] > p->config->min) {
                e = list_last(&p->environments[ENVIRONMENT_IDLE], struct environment, link);
                if (e->deadline_us > now)
                        return e->deadline_us;
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
        int64_t now = p->clock(), next, due = USEC_NEVER;
        unsigned overdue;

        next = tick_cleaning(p, now);
        if (p->stopping)
                return next;

        next = clock_earlier(next, tick_old(p, now));
        tick_grant(p);
        p->n_claims_ticked = p->n_claims;
        fail_hopeless(p);
        overdue = count_overdue(p, now, &due);
        next = clock_earlier(next, due);
        if (!p->config->oversubscribe && overdue > 0) {
                fail_overdue(p, overdue);
                overdue = 0;
                next = now; /* there may be more */
        }
        next = clock_earlier(next, tick_create(p, now, overdue));
        tick_shrink(p);
        return clock_earlier(next, tick_idle(p, now));
}
