/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A request for a snapshot of an environment. Embedded in its owner's own struct.
 *
 *   none → waiting → asked → none      done(), once
 *
 *   waiting   the environment is of an earlier run and has not answered yet
 *   asked     the provider was asked
 *
 * There is one of an environment at a time. An environment that its lease gives back meanwhile is neither cleaned nor
 * ended before it is over, as long as a clean-up may take (CLEAN_TIMEOUT_US). It ends at the latest with its environment.
 */

#include "pool/environment/environment.h"

struct environment_snapshot {
        /* Ok: the provider calls it @image. Not ok: whether it has one is not known. From the loop, or from a change of state. */
        void (*done)(struct environment_snapshot *s, const struct result *r, const char *image);

        const char *id; /* the UUID that the provider is asked with; borrowed */
        struct environment *environment; /* NULL: it is not under way */
        struct snapshot_call call;
};

/*
 * Start it; done and id are set. 0: done() will come. -EBUSY: another is under way. -EOPNOTSUPP: the environment cannot be
 * copied. -ENODEV: it does not live.
 */
int environment_snapshot_start(struct environment_snapshot *s, struct environment *e);

/* Of environment.c: the environment of an earlier run has answered that it lives; or it never will. */
void environment_snapshot_go_on(struct environment_snapshot *s);
void environment_snapshot_fail(struct environment_snapshot *s, const struct result *why);
