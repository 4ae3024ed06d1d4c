/* SPDX-License-Identifier: MIT */
#pragma once

/* Events of a client of the helper that a test does not expect: each fails it. */

#include "check.h"
#include "pool/helper/client.h"

static inline void unexpected_broken(void *owner, const char *why, size_t len) {
        printf("# broken: %.*s\n", (int)len, why);
        check_failed_now = true;
}

static inline void unexpected_stale(void *owner) {
        check_failed_now = true;
}

static inline void unexpected_refused(void *owner, uint32_t count) {
        check_failed_now = true;
}

static inline void unexpected_replied(void *owner, uint64_t request) {
        check_failed_now = true;
}

static inline void unexpected_done(void *owner, int error, const char *text, size_t len) {
        check_failed_now = true;
}

#define UNEXPECTED_CLIENT_EVENTS                                                                                       \
        .broken = unexpected_broken, .stale = unexpected_stale, .refused = unexpected_refused,                          \
        .replied = unexpected_replied, .cleaned = unexpected_done, .noted = unexpected_done
