/* SPDX-License-Identifier: MIT */
#include "pool/environment/snapshot.h"

#include <errno.h>
#include <string.h>

static void end(struct environment_snapshot *s, const struct result *r, const char *image) {
        struct environment *e = s->environment;

        s->environment = NULL;
        e->snapshot = NULL;
        s->done(s, r, image);
        e->all->events->snapshot_over(e->all->owner, e);
}

static void on_done(struct snapshot_call *c, const struct result *r, const char *image) {
        end(container_of(c, struct environment_snapshot, call), r, image);
}

static int ask(struct environment_snapshot *s) {
        s->call.done = on_done;
        return sandbox_snapshot(s->environment->sandbox, s->id, &s->call);
}

int environment_snapshot_start(struct environment_snapshot *s, struct environment *e) {
        int r = 0;

        if (e->snapshot)
                return -EBUSY;
        if (e->state != ENVIRONMENT_LEASED && e->state != ENVIRONMENT_CREATING)
                return -ENODEV;
        s->environment = e;
        if (e->sandbox->state == SANDBOX_LIVE)
                r = ask(s);
        else if (e->sandbox->state != SANDBOX_CREATING)
                r = -ENODEV;
        if (r < 0)
                s->environment = NULL;
        else
                e->snapshot = s;
        return r;
}

void environment_snapshot_go_on(struct environment_snapshot *s) {
        struct result why;
        int r = ask(s);

        if (r == 0)
                return;
        result_set(&why, RESULT_FAILED, "environment %s: no snapshot: %s", s->environment->sandbox->id, strerror(-r));
        end(s, &why, NULL);
}

void environment_snapshot_fail(struct environment_snapshot *s, const struct result *why) {
        end(s, why, NULL);
}
