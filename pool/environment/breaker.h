/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A circuit breaker for creates: it says when the next create may be sent.
 *
 *   closed → open    after BREAKER_ERRORS refusals in a row
 *   open → closed    when a create succeeds or finds no room (RESULT_BUSY), or by breaker_reset()
 *
 * Each failure puts off the next create, for twice as long as the failure
 * before. While the breaker is open no create is sent for BREAKER_PAUSE_US;
 * then one is sent as a trial.
 *
 * A refusal is an answer that the same create would get again, such as for a
 * token that was revoked.
 *
 * The breaker is embedded in its pool, owns nothing and needs no deinit.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/base/event.h"
#include "pool/util/result.h"

struct breaker {
        const char *backend;       /* its name, for the events; borrowed, as is what follows */
        struct event_ring *events;
        int64_t (*clock)(void);
        uint64_t *random;          /* the generator that jitter is drawn from */

        struct result trouble;     /* the newest failure; RESULT_OK: a create succeeded since */
        int64_t failed_us;         /* when that was; 0: never */
        int64_t backoff_us;        /* how long the newest failure delays the next create, at most */
        int64_t create_after_us;   /* until when it delays the next create */

        bool open;
        unsigned n_refused;        /* refusals in a row */
        int64_t trial_us;          /* while open: when the trial may be sent */
};

void breaker_init(struct breaker *b, const char *backend, struct event_ring *events, int64_t (*clock)(void),
                  uint64_t *random);

/*
 * A create that was sent at @sent_us failed, or this machine could not send it. If several creates were under way
 * together, only the first failure counts.
 */
void breaker_put_off(struct breaker *b, int64_t sent_us, const struct result *why);

/*
 * What creates need cannot be had. If it is refused, such as an image that cannot be built, the breaker opens: the next
 * create would be refused too.
 */
void breaker_refuse(struct breaker *b, const struct result *why);

/* What creates need will never be there: it opens, and no trial is sent. */
void breaker_end(struct breaker *b, const struct result *why);

/* The provider answered a create that was sent at @sent_us with a failure. */
void breaker_failed(struct breaker *b, int64_t sent_us, const struct result *why);

/*
 * A create that was sent at @sent_us succeeded: close the breaker and forget all failures. If the newest failure was for
 * lack of room, that stands unless the create was sent after it.
 */
void breaker_succeeded(struct breaker *b, int64_t sent_us);

/* The user asks for another try: close the breaker and forget all failures. */
void breaker_reset(struct breaker *b);

/* The earliest time at which the next create may be sent. */
int64_t breaker_create_from(const struct breaker *b);

/* How many creates may be under way at a time, if the configuration allows @creates. */
unsigned breaker_create_limit(const struct breaker *b, unsigned creates);

/* Whether no create may be sent at @now, not even a trial. */
bool breaker_refuses(const struct breaker *b, int64_t now);

/* Why the newest create failed, as long as no later one succeeded; else NULL. */
const struct result *breaker_trouble(const struct breaker *b);
