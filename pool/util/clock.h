/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Time. The program uses microseconds of CLOCK_BOOTTIME, which never jumps and
 * continues while a laptop sleeps, like the lifetime of a sandbox. Wall time
 * is for people only.
 */

#include <stdint.h>
#include <time.h>

#define USEC_PER_MSEC INT64_C(1000)
#define USEC_PER_SEC INT64_C(1000000)
#define USEC_NEVER INT64_MAX

static inline int64_t clock_read_us(clockid_t id) {
        struct timespec ts;

        clock_gettime(id, &ts);
        return ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

static inline int64_t clock_now(void) {
        return clock_read_us(CLOCK_BOOTTIME);
}

/* @t + @us, or never, without overflow. */
static inline int64_t clock_after(int64_t t, int64_t us) {
        return us >= USEC_NEVER - t ? USEC_NEVER : t + us;
}

static inline int64_t clock_earlier(int64_t a, int64_t b) {
        return a < b ? a : b;
}
