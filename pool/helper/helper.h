/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The helper as a decorator over any backend: jobs go through the helper in their sandbox, over a stream that stays open,
 * in place of an exec of the backend for each.
 *
 * Where the backend below starts the helper (sandbox_has_helper()), that is used. Else this layer uploads it once to each
 * new sandbox, before the sandbox is live, and opens streams by execs of `attach`. Where it cannot run, the creation fails,
 * or with helper=auto a notice says so, and the sandbox's jobs are execs of the backend below.
 *
 * The key to a helper that was uploaded stands in front of the resume token, so that a later run finds it there. A sandbox
 * that is adopted goes on as it was: its jobs are where they were started. One without a helper gets it at once if it is
 * unused, else with its next clean-up.
 *
 * A newer daemon that has taken over a sandbox keeps it: this one says that it died, and leaves it when it is destroyed.
 */

#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/base/option.h"
#include "pool/helper/program.h"

enum helper_use {
        HELPER_NO, /* nothing is uploaded, and a sandbox runs one job at a time, also over a helper that it has anyway */
        HELPER_AUTO,
        HELPER_YES,
};

struct helper_options {
        unsigned use; /* enum helper_use */
        int64_t carrier_idle_us;
};

extern const struct option_table helper_options;

/*
 * Wrap *backend, which then belongs to the wrapper. @loop, @options and @program are borrowed and outlive it; @setup is
 * borrowed for the call. 0 or -errno and *why.
 */
int helper_new(struct backend **backend, uv_loop_t *loop, const struct helper_options *options,
               const struct backend_setup *setup, const struct helper_program *program, struct result *why);
