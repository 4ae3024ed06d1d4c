/* SPDX-License-Identifier: MIT */

/*
 * After a restart: environments that an earlier run left are taken back, and
 * those that are in nobody's books are ended.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/environment/internal.h"
#include "pool/environment/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

struct restored {
        struct pool *pool;
        struct list environments;
};

static int read_row(void *data, const struct journal_environment *row) {
        struct restored *all = data;
        struct environment *e = environment_new(all->pool, row->nonce);

        if (!e)
                return -ENOMEM;
        list_add_tail(&all->environments, &e->link);
        e->adopted = true;
        e->ending = row->ending;
        e->uses = row->uses;
        e->user = row->user;
        e->created_us = row->created_us;
        e->ticket = strdup(row->ticket);
        e->workdir = row->workdir ? strdup(row->workdir) : NULL;
        return e->ticket && (e->workdir || !row->workdir) ? 0 : -ENOMEM;
}

/* Ask it whether it lives; or end it, when it was to end, or when it never had an answer to its create. */
static int adopt(struct environment *e, const char *ticket) {
        struct pool *p = e->pool;
        int r = sandbox_adopt(p->backend, e->nonce, ticket, &environment_events, e, &e->sandbox);

        if (r < 0)
                return r;
        environment_add(e);
        if (e->ending || !*ticket)
                environment_end(e);
        return 0;
}

int pool_restore(struct pool *p) {
        struct restored all = { .pool = p };
        struct environment *e, *tmp;
        int r;

        list_init(&all.environments);
        r = journal_each_environment(p->journal, read_row, &all);
        list_for_each_safe (e, tmp, &all.environments, link) {
                int n = r;

                list_remove(&e->link);
                if (n == 0)
                        n = adopt(e, e->ticket);
                if (n == -EINVAL) /* a ticket that nobody can read */
                        n = adopt(e, "");
                if (n == 0)
                        continue;
                if (n == -ENOTSUP) /* it ended with the run that made it */
                        (void)journal_drop_environment(p->journal, e->nonce);
                else
                        log_error("environment %s of an earlier run is not taken back: %s", e->nonce, strerror(-n));
                environment_free(e);
        }
        p->list_us = p->clock();
        p->restored_wall_us = clock_read_us(CLOCK_REALTIME);
        p->list_interval_us = ORPHAN_GRACE_US;
        return r;
}

bool pool_restore_claim(struct pool *p, struct claim *c, const char *nonce) {
        struct environment *e;

        HASH_FIND_STR(p->by_nonce, nonce, e);
        if (!e || e->claim || e->state != ENVIRONMENT_CREATING || !environment_is_for(e, c->uid))
                return false;
        c->state = CLAIM_GRANTED;
        c->environment = e;
        c->since_us = p->clock();
        environment_hold(e, c);
        return true;
}

/* orphans */

int64_t pool_tick_list(struct pool *p, int64_t now) {
        int r;

        if (p->list_us > now)
                return p->list_us;
        r = backend_list(p->backend);
        if (r == -ENOTSUP) {
                p->list_us = USEC_NEVER;
        } else {
                p->list_us = clock_after(now, p->list_interval_us);
                p->list_interval_us = clock_earlier(2 * p->list_interval_us, ORPHAN_INTERVAL_US);
        }
        return p->list_us;
}

static void forget_terminated(struct pool *p, struct terminated *one) {
        HASH_DEL(p->terminated, one);
        free(one);
}

void pool_forget_terminated(struct pool *p) {
        struct terminated *one, *tmp;

        HASH_ITER(hh, p->terminated, one, tmp)
                forget_terminated(p, one);
}

void pool_note_terminated(struct pool *p, const char *nonce) {
        struct terminated *one, *tmp;

        HASH_ITER(hh, p->terminated, one, tmp) {
                if (HASH_COUNT(p->terminated) < TERMINATED_MAX && clock_after(one->since_us, ORPHAN_GRACE_US) > p->clock())
                        break;
                forget_terminated(p, one);
        }
        one = calloc(1, sizeof(*one));
        if (!one)
                return; /* it may be counted as an orphan, and terminated once more */
        snprintf(one->nonce, sizeof(one->nonce), "%s", nonce);
        one->since_us = p->clock();
        HASH_ADD_STR(p->terminated, nonce, one);
}

static bool was_terminated(const struct pool *p, const char *nonce) {
        const struct terminated *one;

        HASH_FIND_STR(p->terminated, nonce, one);
        return one && clock_after(one->since_us, ORPHAN_GRACE_US) > p->clock();
}

void pool_found(struct pool *p, const struct sandbox_found *found) {
        int64_t age = clock_read_us(CLOCK_REALTIME) - found->created_wall_us;
        struct environment *e;

        HASH_FIND_STR(p->by_nonce, found->nonce, e);
        if (e || was_terminated(p, found->nonce))
                return;
        if (!uuid_is(found->nonce)) {
                if (p->n_strange++ < LISTED_NAMED_MAX)
                        log_warning("environment=%s: it carries this pool's tag, but was not made by it; left alone",
                                    found->id);
                return;
        }
        /* What was made before this run can be nobody's but an earlier one's, however young it is. */
        if (found->created_wall_us >= p->restored_wall_us && age < ORPHAN_GRACE_US) {
                p->list_us = clock_earlier(p->list_us, clock_after(p->clock(), ORPHAN_GRACE_US - age));
                return;
        }
        e = environment_new(p, found->nonce);
        if (!e)
                return;
        if (p->n_orphans++ < LISTED_NAMED_MAX)
                log_warning("environment=%s: in nobody's books, ending it", found->id);
        event_emit(p->events, "environment", found->id, "orphan", NULL, NULL);
        p->totals.orphans++;
        e->adopted = true;
        if (adopt(e, "") < 0)
                environment_free(e);
}

void pool_listed(struct pool *p, const struct result *r) {
        if (p->n_strange > LISTED_NAMED_MAX)
                log_warning("%u more environments carry this pool's tag, but were not made by it; left alone",
                            p->n_strange - LISTED_NAMED_MAX);
        if (p->n_orphans > LISTED_NAMED_MAX)
                log_warning("%u more environments in nobody's books, ending them", p->n_orphans - LISTED_NAMED_MAX);
        p->n_strange = p->n_orphans = 0;
        if (!result_ok(r))
                log_warning("looking for environments that are nobody's: %s", r->text);
}
