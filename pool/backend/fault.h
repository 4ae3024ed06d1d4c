/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Faults by seed: a decorator over any backend.
 *
 * The same seed and the same calls give the same faults. Kinds, each with a
 * rate from 0 to 1:
 *
 *   create   a create fails; the next one may succeed
 *   refuse   a create is refused, as if it would fail however often it is tried
 *   clean    a clean-up fails
 *   change   a clean-up finds that something was changed
 *   idle     a sandbox dies instead of being cleaned
 *   death    a sandbox dies when a command is to run in it
 *   delay    an answer comes up to 50 ms late
 */

#include <uv.h>

#include "pool/backend/backend.h"

/*
 * Wrap *backend, which then belongs to the wrapper. @rates has the form
 * "create:0.1+delay:0.5". -EINVAL with @why if it is invalid.
 */
int fault_new(struct backend **backend, uv_loop_t *loop, const char *rates, uint64_t seed, struct result *why);
