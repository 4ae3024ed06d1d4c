/* SPDX-License-Identifier: MIT */

/*
 * When creates fail.
 *
 * Each failure puts off the next create for longer. After some that were
 * refused for good, such as with a token that was revoked, there are none for
 * a while, then one to see; who waits meanwhile is told (see pool-tick.c).
 */

#include "pool/environment/internal.h"

#include "pool/environment/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/random.h"

/* What would be refused again, however often it is tried. */
static bool is_refusal(const struct result *r) {
        return r->code == RESULT_INVALID || r->code == RESULT_DENIED;
}

void pool_put_off_creates(struct pool *p, int64_t sent_us, const struct result *why) {
        int64_t half;

        p->trouble = *why;
        if (sent_us <= p->failed_us)
                return; /* on its way when another failed: the same trouble, told twice */
        p->failed_us = p->clock();
        p->backoff_us = p->backoff_us ? p->backoff_us * 2 : BACKOFF_MIN_US;
        if (p->backoff_us > BACKOFF_MAX_US)
                p->backoff_us = BACKOFF_MAX_US;
        half = p->backoff_us / 2;
        p->create_after_us = clock_after(p->clock(), half + (int64_t)random_below(&p->random, half + 1));
}

static void stop_creates(struct pool *p, const struct result *r) {
        p->trial_us = clock_after(p->clock(), BREAKER_PAUSE_US);
        result_set(&p->trouble, r->code, "%s; tried again after %d s, or when \"resume\" is written to .pool/ctl",
                   r->text, (int)(BREAKER_PAUSE_US / USEC_PER_SEC));
        if (p->broken)
                return;
        p->broken = true;
        log_error("environments: %u creates were refused, no more for now: %s", p->n_refused, r->text);
        event_emit(p->events, "backend", p->backend->ops->name, "creates-stopped", NULL, r->text);
}

void pool_create_failed(struct pool *p, int64_t sent_us, const struct result *r) {
        p->totals.create_failures++;
        pool_put_off_creates(p, sent_us, r);
        if (is_refusal(r))
                p->n_refused++;
        if (p->broken || p->n_refused >= BREAKER_ERRORS)
                stop_creates(p, r);
}

void pool_create_succeeded(struct pool *p) {
        p->totals.created++;
        pool_retry(p);
}

void pool_retry(struct pool *p) {
        p->trouble.code = RESULT_OK;
        p->failed_us = p->backoff_us = p->create_after_us = 0;
        p->n_refused = 0;
        if (!p->broken)
                return;
        p->broken = false;
        log_info("environments: created again");
        event_emit(p->events, "backend", p->backend->ops->name, "creates-resumed", NULL, NULL);
}

int64_t pool_creates_from(const struct pool *p) {
        return p->broken && p->trial_us > p->create_after_us ? p->trial_us : p->create_after_us;
}

unsigned pool_creates_most(const struct pool *p) {
        return p->broken ? 1 : (unsigned)p->config->creates;
}
