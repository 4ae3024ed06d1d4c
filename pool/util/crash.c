/* SPDX-License-Identifier: MIT */
#include "pool/util/crash.h"

#include <signal.h>
#include <stdlib.h>

#include "pool/util/log.h"

#ifdef MODALPOOL_CRASH_POINTS

void crash_point(const char *what, const char *when) {
        static unsigned long passed, last;
        const char *wanted;

        if (passed++ == 0 && (wanted = getenv("MODALPOOL_CRASH_AT")))
                last = strtoul(wanted, NULL, 10);
        if (passed == last) {
                log_warning("crash point %lu: %s %s", passed, what, when);
                raise(SIGKILL);
        }
}

#endif
