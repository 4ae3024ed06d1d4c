/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Places where a crash would hurt most. A build with -Dcrash_points=true ends
 * itself by SIGKILL at the one whose number the environment variable
 * MODALPOOL_CRASH_AT gives, counted from 1 in the order in which they are
 * passed; tests take them one after the other. Elsewhere this is nothing.
 */

#ifdef MODALPOOL_CRASH_POINTS
void crash_point(const char *what, const char *when);
#else
static inline void crash_point(const char *what, const char *when) {
}
#endif
