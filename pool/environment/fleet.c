/* SPDX-License-Identifier: MIT */
#include "pool/environment/fleet.h"

#include "pool/environment/limits.h"
#include "pool/util/log.h"

void fleet_init(struct fleet *f, struct backend *backend, const struct config *config) {
        *f = (struct fleet){ .backend = backend, .config = config };
        list_init(&f->members);
        list_init(&f->queue);
}

void fleet_deinit(struct fleet *f) {
        orphans_deinit(&f->orphans);
}

void fleet_join(struct fleet *f, struct fleet_member *m, struct environments *set, int64_t *due_us) {
        *m = (struct fleet_member){ .set = set, .due_us = due_us };
        list_init(&m->link);
        list_init(&m->queue);
        list_add_tail(&f->members, &m->link);
        if (!f->orphans.environments)
                orphans_init(&f->orphans, set);
}

static void set_wants_warm(struct fleet *f, struct fleet_member *m, bool wants) {
        f->n_warm += wants - m->wants_warm;
        m->wants_warm = wants;
}

void fleet_leave(struct fleet *f, struct fleet_member *m) {
        fleet_stop_waiting(m);
        set_wants_warm(f, m, false);
        list_remove(&m->link);
}

void fleet_stop(struct fleet *f) {
        f->stopping = true;
}

/* places */

/* Within max_total. */
static uint64_t count_free(const struct fleet *f) {
        uint64_t n = 0;

        if (f->config->max_total == 0)
                return UINT64_MAX;
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                n += f->count[i];
        return n < f->config->max_total ? f->config->max_total - n : 0;
}

static bool is_full(const struct fleet *f) {
        return count_free(f) == 0;
}

static bool has_place(const struct fleet *f, int64_t now) {
        return f->count[ENVIRONMENT_CREATING] < f->config->creates && f->paced_us <= now && !is_full(f);
}

bool fleet_may_create(struct fleet *f, struct fleet_member *m, int64_t now) {
        if (has_place(f, now) && (list_empty(&f->queue) || f->queue.next == &m->queue))
                return true;
        if (list_empty(&m->queue)) {
                m->since = f->n_lent_again;
                list_add_tail(&f->queue, &m->queue);
        }
        return false;
}

bool fleet_may_create_warm(struct fleet *f, struct fleet_member *m, int64_t now) {
        bool may = has_place(f, now) && list_empty(&f->queue);

        set_wants_warm(f, m, !may);
        return may;
}

/* One that comes late catches up, a little: else a loop that is late each time would be slower than the rate. */
static void pace(struct fleet *f, int64_t now) {
        if (f->config->create_rate == 0) {
                f->paced_us = 0;
                return;
        }
        if (f->paced_us < now - CREATE_CATCH_UP_US)
                f->paced_us = now - CREATE_CATCH_UP_US;
        f->paced_us += USEC_PER_SEC / (int64_t)f->config->create_rate;
}

void fleet_created(struct fleet *f, struct fleet_member *m, int64_t now) {
        pace(f, now);
        fleet_stop_waiting(m); /* if it wants more, its next place is behind those of the others */
}

void fleet_stop_waiting(struct fleet_member *m) {
        list_remove(&m->queue);
}

/* what one pool leaves to another */

/* It was served, or lets another be served: those that were not come before it. */
static void go_to_end(struct fleet *f, struct fleet_member *m) {
        if (list_empty(&m->queue))
                return;
        list_remove(&m->queue);
        m->since = f->n_lent_again;
        list_add_tail(&f->queue, &m->queue);
}

bool fleet_must_yield(struct fleet *f, struct fleet_member *m) {
        const struct fleet_member *other;
        uint64_t coming;

        if (list_empty(&f->queue) || f->config->max_total == 0)
                return false;
        coming = count_free(f) + f->count[ENVIRONMENT_ENDING];
        list_for_each (other, &f->queue, queue) {
                if (other == m)
                        continue;
                if (f->n_lent_again - other->since < f->config->max_total)
                        return false; /* those behind it wait for a shorter time */
                if (coming-- == 0) {
                        go_to_end(f, m);
                        return true;
                }
        }
        return false;
}

void fleet_lent_again(struct fleet *f, struct fleet_member *m) {
        if (list_empty(&f->queue))
                return;
        f->n_lent_again++;
        go_to_end(f, m);
}

bool fleet_is_full_for(const struct fleet *f, const struct fleet_member *m) {
        return !list_empty(&m->queue) && is_full(f);
}

static struct environment *find_oldest_idle(const struct fleet *f) {
        const struct fleet_member *m;
        struct environment *oldest = NULL;

        list_for_each (m, &f->members, link) {
                struct environment *e = list_last(&m->set->in[ENVIRONMENT_IDLE], struct environment, link);

                if (e && (!oldest || e->since_us < oldest->since_us))
                        oldest = e;
        }
        return oldest;
}

/* One for each pool in the queue, beside those that end anyway. */
static void make_places(struct fleet *f) {
        unsigned coming = f->count[ENVIRONMENT_ENDING];
        const struct fleet_member *m;
        struct environment *e;

        list_for_each (m, &f->queue, queue) {
                if (coming > 0) {
                        coming--;
                        continue;
                }
                e = find_oldest_idle(f);
                if (!e)
                        return;
                log_info("environment=%s: ended to make room for another pool", e->sandbox->id);
                environment_terminate(e);
        }
}

/* They ask again. */
static bool wake_warm(struct fleet *f) {
        struct fleet_member *m;

        list_for_each (m, &f->members, link)
                if (m->wants_warm) {
                        set_wants_warm(f, m, false);
                        *m->due_us = 0;
                }
        return true;
}

bool fleet_serve(struct fleet *f, int64_t now, int64_t *next) {
        struct fleet_member *head = list_first(&f->queue, struct fleet_member, queue);

        if (f->stopping)
                return false;
        if (f->paced_us > now)
                *next = clock_earlier(*next, f->paced_us);
        if (head && is_full(f))
                make_places(f);
        if (!has_place(f, now))
                return false;
        if (!head)
                return wake_warm(f);
        *head->due_us = 0;
        return true;
}
