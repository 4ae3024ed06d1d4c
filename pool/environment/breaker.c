/* SPDX-License-Identifier: MIT */
#include "pool/environment/breaker.h"

#include "pool/environment/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/random.h"

void breaker_init(struct breaker *b, const char *backend, struct event_ring *events, int64_t (*clock)(void),
                  uint64_t *random) {
        *b = (struct breaker){ .backend = backend, .events = events, .clock = clock, .random = random };
}

static bool is_refusal(const struct result *r) {
        return r->code == RESULT_INVALID || r->code == RESULT_DENIED;
}

void breaker_put_off(struct breaker *b, int64_t sent_us, const struct result *why) {
        int64_t half;

        b->trouble = *why;
        if (sent_us <= b->failed_us)
                return; /* it was under way when another one failed, so the cause is the same */
        b->failed_us = b->clock();
        b->backoff_us = b->backoff_us ? b->backoff_us * 2 : BACKOFF_MIN_US;
        if (b->backoff_us > BACKOFF_MAX_US)
                b->backoff_us = BACKOFF_MAX_US;
        half = b->backoff_us / 2;
        b->create_after_us = clock_after(b->clock(), half + (int64_t)random_below(b->random, half + 1));
}

static void open_breaker(struct breaker *b, const struct result *why) {
        b->trial_us = clock_after(b->clock(), BREAKER_PAUSE_US);
        result_set(&b->trouble, why->code, "%s; tried again after %d s, or when \"resume\" is written to .pool/ctl",
                   why->text, (int)(BREAKER_PAUSE_US / USEC_PER_SEC));
        if (b->open)
                return;
        b->open = true;
        log_error("environments: %u creates were refused, no more for now: %s", b->n_refused, why->text);
        event_emit(b->events, "backend", b->backend, "creates-stopped", NULL, why->text);
}

static void close_breaker(struct breaker *b) {
        b->n_refused = 0;
        if (!b->open)
                return;
        b->open = false;
        log_info("environments: created again");
        event_emit(b->events, "backend", b->backend, "creates-resumed", NULL, NULL);
}

/* The provider has no room for one more. It accepts what we ask for, so earlier refusals do not count any more. */
static void no_room(struct breaker *b, int64_t sent_us, const struct result *why) {
        breaker_put_off(b, sent_us, why);
        result_set(&b->trouble, why->code, "%s; tried again until there is room", why->text);
        close_breaker(b);
}

void breaker_failed(struct breaker *b, int64_t sent_us, const struct result *why) {
        if (why->code == RESULT_BUSY) {
                no_room(b, sent_us, why);
                return;
        }
        breaker_put_off(b, sent_us, why);
        if (is_refusal(why))
                b->n_refused++;
        if (b->open || b->n_refused >= BREAKER_ERRORS)
                open_breaker(b, why);
}

void breaker_refuse(struct breaker *b, const struct result *why) {
        if (is_refusal(why))
                b->n_refused = BREAKER_ERRORS - 1; /* one refusal is enough */
        breaker_failed(b, b->clock(), why);
}

void breaker_end(struct breaker *b, const struct result *why) {
        b->trouble = *why;
        b->trial_us = USEC_NEVER;
        b->open = true;
}

void breaker_reset(struct breaker *b) {
        b->trouble.code = RESULT_OK;
        b->failed_us = b->backoff_us = b->create_after_us = 0;
        close_breaker(b);
}

void breaker_succeeded(struct breaker *b, int64_t sent_us) {
        if (b->trouble.code == RESULT_BUSY && sent_us <= b->failed_us)
                return; /* there was room for it before there was none */
        breaker_reset(b);
}

int64_t breaker_create_from(const struct breaker *b) {
        return b->open && b->trial_us > b->create_after_us ? b->trial_us : b->create_after_us;
}

unsigned breaker_create_limit(const struct breaker *b, unsigned creates) {
        return b->open ? 1 : creates;
}

bool breaker_refuses(const struct breaker *b, int64_t now) {
        return b->open && b->trial_us > now;
}

const struct result *breaker_trouble(const struct breaker *b) {
        return b->trouble.code == RESULT_OK ? NULL : &b->trouble;
}
