/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Places where a crash would do the most damage. A program built with
 * -Dcrash_points=true counts from 1 the places that it passes, and kills itself
 * by SIGKILL at number MODALPOOL_CRASH_AT of the environment. Tests try all
 * numbers. In other builds this does nothing.
 */

#ifdef MODALPOOL_CRASH_POINTS
void crash_point(const char *what, const char *when);
#else
static inline void crash_point(const char *what, const char *when) {
}
#endif
