/* SPDX-License-Identifier: MIT */
#include "pool/environment/orphans.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "pool/environment/fleet.h"
#include "pool/environment/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

struct terminated {
        UT_hash_handle hh;
        char nonce[UUID_SIZE];
        int64_t since_us;
};

void orphans_init(struct orphans *o, struct environments *environments) {
        *o = (struct orphans){ .environments = environments, .list_us = USEC_NEVER };
}

static int64_t now(const struct orphans *o) {
        return o->environments->clock();
}

void orphans_start(struct orphans *o) {
        o->list_us = now(o);
        o->started_wall_us = clock_read_us(CLOCK_REALTIME);
        o->interval_us = ORPHAN_GRACE_US;
}

int64_t orphans_tick(struct orphans *o, int64_t now_us) {
        int r;

        if (o->list_us > now_us)
                return o->list_us;
        r = backend_list(o->environments->fleet->backend);
        if (r == -ENOTSUP) {
                o->list_us = USEC_NEVER;
        } else {
                o->list_us = clock_after(now_us, o->interval_us);
                o->interval_us = clock_earlier(2 * o->interval_us, ORPHAN_INTERVAL_US);
        }
        return o->list_us;
}

/* what has ended */

static bool is_recent(const struct orphans *o, const struct terminated *t) {
        return clock_after(t->since_us, ORPHAN_GRACE_US) > now(o);
}

static void forget(struct orphans *o, struct terminated *t) {
        HASH_DEL(o->terminated, t);
        free(t);
}

void orphans_deinit(struct orphans *o) {
        struct terminated *t, *tmp;

        HASH_ITER(hh, o->terminated, t, tmp)
                forget(o, t);
}

void orphans_note_terminated(struct orphans *o, const char *nonce) {
        struct terminated *t, *tmp;

        HASH_ITER(hh, o->terminated, t, tmp) {
                if (HASH_COUNT(o->terminated) < TERMINATED_MAX && is_recent(o, t))
                        break;
                forget(o, t);
        }
        t = calloc(1, sizeof(*t));
        if (!t)
                return; /* it may be taken for an orphan, and terminated again */
        snprintf(t->nonce, sizeof(t->nonce), "%s", nonce);
        t->since_us = now(o);
        HASH_ADD_STR(o->terminated, nonce, t);
}

static bool was_terminated(const struct orphans *o, const char *nonce) {
        const struct terminated *t;

        HASH_FIND_STR(o->terminated, nonce, t);
        return t && is_recent(o, t);
}

/* what is listed */

/* A sandbox that was made before this run began is an earlier run's, however young. */
static bool may_be_under_way(const struct orphans *o, const struct sandbox_found *found, int64_t age_us) {
        return found->created_wall_us >= o->started_wall_us && age_us < ORPHAN_GRACE_US;
}

/* As an environment without a resume token, so that it is terminated and not taken back. NULL: out of memory. */
static struct environment *orphan_new(struct orphans *o, const struct sandbox_found *found) {
        struct environment *e = NULL;

        (void)environment_from_row(&e, o->environments,
                                   &(struct journal_environment){
                                           .nonce = found->nonce,
                                           .resume_token = "",
                                           .user = ENVIRONMENT_NO_USER,
                                           .created_us = now(o),
                                   });
        return e;
}

bool orphans_found(struct orphans *o, const struct sandbox_found *found) {
        int64_t age_us = clock_read_us(CLOCK_REALTIME) - found->created_wall_us;
        struct environment *e;

        if (environments_find(o->environments->fleet, found->nonce) || was_terminated(o, found->nonce))
                return false;
        if (!uuid_is(found->nonce)) {
                if (o->n_strange++ < LISTED_NAMED_MAX)
                        log_warning("environment=%s: it carries this pool's tag, but was not made by it; left alone",
                                    found->id);
                return false;
        }
        if (may_be_under_way(o, found, age_us)) {
                o->list_us = clock_earlier(o->list_us, clock_after(now(o), ORPHAN_GRACE_US - age_us));
                return false;
        }
        e = orphan_new(o, found);
        if (!e)
                return false; /* the next list has it again */
        if (o->n_orphans++ < LISTED_NAMED_MAX)
                log_warning("environment=%s: not in the journal, ending it", found->id);
        event_emit(o->environments->ring, "environment", found->id, "orphan", NULL, NULL);
        if (environment_adopt(e) < 0)
                environment_free(e);
        return true;
}

void orphans_listed(struct orphans *o, const struct result *r) {
        if (o->n_strange > LISTED_NAMED_MAX)
                log_warning("%u more environments carry this pool's tag, but were not made by it; left alone",
                            o->n_strange - LISTED_NAMED_MAX);
        if (o->n_orphans > LISTED_NAMED_MAX)
                log_warning("%u more environments are not in the journal, ending them",
                            o->n_orphans - LISTED_NAMED_MAX);
        o->n_strange = o->n_orphans = 0;
        if (!result_ok(r))
                log_warning("listing environments that are not in the journal: %s", r->text);
}
