/* SPDX-License-Identifier: MIT */
#include "pool/environment/returns.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *environment_return_name(enum environment_return how) {
        static const char *const names[RETURN_N] = {
                [RETURN_CLEAN] = "clean",
                [RETURN_CHANGED] = "changed",
                [RETURN_SINGLE_USE] = "single_use",
                [RETURN_FAILED] = "failed",
                [RETURN_RETIRED] = "retired",
        };

        return names[how];
}

/* One that is not kept yet takes the place, and the count, of the least frequent. */
static void count_path(struct returns *r, const char *path) {
        struct returns_path *least;

        if (!r->paths)
                r->paths = calloc(RETURNS_PATHS, sizeof(*r->paths));
        if (!r->paths)
                return;
        least = r->paths;

        for (struct returns_path *p = r->paths; p < r->paths + RETURNS_PATHS; p++) {
                if (p->n > 0 && strcmp(p->path, path) == 0) {
                        p->n++;
                        return;
                }
                if (p->n < least->n)
                        least = p;
        }
        snprintf(least->path, sizeof(least->path), "%s", path);
        least->n++;
}

static const struct returns_path *most_frequent(const struct returns *r) {
        static const struct returns_path unknown = { .path = "a path that could not be kept" };
        const struct returns_path *most = r->paths;

        if (!most)
                return &unknown;
        for (const struct returns_path *p = r->paths; p < r->paths + RETURNS_PATHS; p++)
                if (p->n > most->n)
                        most = p;
        return most;
}

static void advise(const struct returns *r, uint64_t ended, uint64_t all, struct result *advice) {
        const struct returns_path *most = most_frequent(r);
        const uint64_t *n = r->n;

        if (n[RETURN_CHANGED] >= n[RETURN_SINGLE_USE] && n[RETURN_CHANGED] >= n[RETURN_FAILED])
                result_set(advice, RESULT_FAILED,
                           "%" PRIu64 " of %" PRIu64 " leases ended their environment, %" PRIu64 " by a change of %s; bring it "
                           "with the image, or name it in option unwatched if it may pass to the next lease; reset=workdir "
                           "compares nothing",
                           ended, all, most->n, most->path);
        else if (n[RETURN_SINGLE_USE] >= n[RETURN_FAILED])
                result_set(advice, RESULT_FAILED,
                           "%" PRIu64 " of %" PRIu64 " leases ended their environment, %" PRIu64 " because that was not noted "
                           "before their first job; min keeps environments ready, which are noted; without a helper none is",
                           ended, all, n[RETURN_SINGLE_USE]);
        else
                result_set(advice, RESULT_FAILED,
                           "%" PRIu64 " of %" PRIu64 " leases ended their environment, %" PRIu64 " because it could not be "
                           "cleaned: the log says why",
                           ended, all, n[RETURN_FAILED]);
}

void returns_deinit(struct returns *r) {
        free(r->paths);
}

bool returns_count(struct returns *r, enum environment_return how, const char *path, struct result *advice) {
        uint64_t ended, all;

        r->n[how]++;
        if (path)
                count_path(r, path);
        ended = r->n[RETURN_CHANGED] + r->n[RETURN_SINGLE_USE] + r->n[RETURN_FAILED];
        all = ended + r->n[RETURN_CLEAN];
        if (r->said || all < RETURNS_MIN || 2 * ended <= all)
                return false;
        r->said = true;
        advise(r, ended, all, advice);
        return true;
}
