/* SPDX-License-Identifier: MIT */

/*
 * What the provider does when its core ends: nothing. Sandboxes live on or die, creates and clean-ups that were
 * under way go well or not, jobs print and end; and the next core asks for all of it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim-internal.h"
#include "pool/environment/limits.h"
#include "pool/util/clock.h"

#define LIST_TIME_MAX_US (50 * USEC_PER_SEC) /* so that one listing has ended when the next is asked for */

/* the end of a core */

void sim_sandbox_leave(struct sandbox *sandbox) {
        /* The answer is in sim_backend_let_go(). */
}

void sim_backend_end_core(struct sim_backend *b, enum sim_core how) {
        struct sim_sandbox *s;

        b->core = how;
        timer_cancel(&b->listed);
        list_for_each (s, &b->sandboxes, link) {
                s->doomed = s->doomed || s->sandbox.state == SANDBOX_ENDING || !s->has_resume_token ||
                            s->adopt_failed ||
                            s->dead || s->bad_probes == 2;
                s->adopting = false;
                timer_cancel(&s->adopted);
        }
}

/* What was sent a moment ago never arrived, perhaps. */
static void lose_some(struct sim_sandbox *s) {
        if (s->created.place && sim_chance(300)) {
                timer_cancel(&s->created);
                s->gone = true;
        }
        if (s->cleaned.place && sim_chance(500))
                timer_cancel(&s->cleaned);
        if (s->destroyed.place && sim_chance(300))
                timer_cancel(&s->destroyed);
}

void sim_backend_let_go(struct sim_backend *b) {
        bool crash = b->core == SIM_CORE_CRASHES;
        struct sim_exec *x, *tmp;
        struct sim_sandbox *s;

        sim_deletions_core_ends(b);
        while ((s = list_first(&b->sandboxes, struct sim_sandbox, link))) {
                SIM_CHECK(s->sandbox.state == SANDBOX_ENDING, "%s is not let go of", s->sandbox.id);
                SIM_CHECK(s->sandbox.n_execs == 0, "%s has execs", s->sandbox.id);
                if (!crash && s->destroyed.place) {
                        /* A planned end waits for that. */
                        timer_cancel(&s->destroyed);
                        sim_sandbox_on_destroyed(&s->destroyed);
                        continue;
                }
                if (crash)
                        lose_some(s);
                else
                        b->totals.destroyed++; /* as the core counts */
                list_for_each_safe (x, tmp, &s->execs, link)
                        if (x->heard)
                                sim_exec_leave(x, crash);
                s->given_up = true;
                sim_note_core_ends(s);
                sim_snapshot_core_ends(s);
                sim_sandbox_stray(s, !s->made_us && !s->created.place);
                sandbox_destroyed(&s->sandbox, &(struct result){});
        }
        SIM_CHECK(b->backend.n_sandboxes == 0, "the backend counts %u sandboxes of a core that ended",
                  b->backend.n_sandboxes);
        b->core = SIM_CORE_SERVES;
}

void sim_backend_forget_strays(struct sim_backend *b) {
        struct sim_begun *begun, *tmp;
        struct sim_sandbox *s;

        timer_cancel(&b->listed);
        while ((s = list_first(&b->strays, struct sim_sandbox, link)))
                sim_sandbox_free(s);
        HASH_ITER(hh, b->begun, begun, tmp) {
                HASH_DEL(b->begun, begun);
                free(begun);
        }
}

/* adoption */

static void on_adopted(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, adopted);
        static const enum result_code transient[] = { RESULT_FAILED, RESULT_TIMEOUT, RESULT_BUSY };
        struct sim_backend *b = sim_backend_of(s);
        struct result r = {};

        if (s->gone || s->dead)
                result_set(&r, RESULT_LOST, "environment %s: gone", s->sandbox.id);
        else if (sim_chance(b->rates.adopt_fails))
                result_set(&r, transient[sim_below(3)], "environment %s: no answer", s->sandbox.id);
        sim_trace("%s adopted: %s", s->sandbox.id, result_code_name(r.code));
        s->adopting = false;
        s->adopt_failed = !result_ok(&r);
        s->sandbox.resume_token = s->resume_token;
        s->sandbox.expires_us = s->expires_us;
        s->idle_since_us = s->checked_us = sim.now_us;
        b->totals.adopted += result_ok(&r);
        b->totals.adopt_failures += !result_ok(&r);
        if (b->hooks && b->hooks->adopted)
                b->hooks->adopted(s, &r);
        sandbox_created(&s->sandbox, &r);
}

static struct sim_sandbox *find_stray(struct sim_backend *b, const char *nonce) {
        struct sim_sandbox *s;

        list_for_each (s, &b->strays, link)
                if (!strcmp(s->nonce, nonce))
                        return s;
        return NULL;
}

/* It ended, and that could not be written down. */
static struct sim_sandbox *make_gone(struct sim_backend *b, const char *nonce, const char *resume_token) {
        struct sim_sandbox *s = calloc(1, sizeof(*s));

        if (!s)
                abort();
        s->number = ++b->last_number;
        snprintf(s->nonce, sizeof(s->nonce), "%s", nonce);
        snprintf(s->resume_token, sizeof(s->resume_token), "%s", resume_token);
        s->has_resume_token = *resume_token;
        s->gone = true;
        list_init(&s->link);
        list_init(&s->execs);
        list_init(&s->past);
        return s;
}

int sim_backend_adopt(struct backend *backend, const char *nonce, const char *resume_token, bool unused,
                         struct sandbox **out) {
        struct sim_backend *b = container_of(backend, struct sim_backend, backend);
        struct sim_sandbox *s = find_stray(b, nonce);

        if (!s && b->lenient)
                s = make_gone(b, nonce, resume_token);
        SIM_CHECK(s, "%s is adopted, which nobody left", nonce);
        sim_sandbox_take(b, s);
        sim_trace("%s is asked after with resume token \"%s\"", s->sandbox.id, resume_token);
        s->doomed = s->doomed || (!*resume_token && b->lenient);
        SIM_CHECK(!*resume_token || (s->has_resume_token && !strcmp(resume_token, s->resume_token)),
                  "%s has resume token %s, not %s", s->sandbox.id,
                  s->resume_token, resume_token);
        SIM_CHECK(!unused || s->tenant == 0, "%s is said to be unused, and a job ran there", s->sandbox.id);
        SIM_CHECK(*resume_token || s->doomed, "%s is adopted without its resume token", s->sandbox.id);
        if (s->destroyed.place) {
                timer_cancel(&s->destroyed);
                s->gone = true;
        }
        s->given_up = s->clean_failed = s->found_changed = s->clean_refused = s->retired = s->cut = s->condemned = false;
        s->adopt_failed = false; /* if its end never arrived, and was not written down, it may answer this time */
        s->bad_probes = 0;
        s->adopted_by_nonce = !*resume_token;
        s->adopting = true;
        if (*resume_token)
                timer_arm(&s->adopted, sim_any_delay(b), on_adopted);
        *out = &s->sandbox;
        return 0;
}

/* what is there */

static bool is_seen(const struct sim_sandbox *s) {
        return s->made_us && !s->gone && !s->dead && (s->made_us + 30 * USEC_PER_SEC <= sim.now_us || sim_chance(500));
}

static void show(struct sim_backend *b, const char *nonce) {
        struct sim_sandbox *s = find_stray(b, nonce);
        int64_t made_us = s ? s->made_us : sim.now_us;
        uint64_t orphans = b->totals.orphans;

        backend_found(&b->backend, &(struct sandbox_found){ .id = s ? s->sandbox.id : "sb",
                                                            .nonce = nonce,
                                                            .created_wall_us = SIM_WALL_US + made_us });
        if (!s)
                return;
        if (find_stray(b, nonce)) {
                SIM_CHECK(made_us + ORPHAN_GRACE_US > sim.now_us, "%s is nobody's, was shown, and is not ended",
                          s->sandbox.id);
                return;
        }
        SIM_CHECK(s->sandbox.state == SANDBOX_ENDING, "%s was nobody's, and is not ended", s->sandbox.id);
        b->totals.orphans = orphans + 1;
}

static void on_listed(struct timer *t) {
        struct sim_backend *b = container_of(t, struct sim_backend, listed);
        bool fails = sim_chance(b->rates.list_fails);
        unsigned n = 0, room = b->last_number + 1;
        char(*nonces)[UUID_SIZE] = calloc(room, sizeof(*nonces));
        struct result r = {};
        struct sim_sandbox *s;

        if (!nonces)
                abort();
        list_for_each (s, &b->sandboxes, link)
                if (is_seen(s))
                        memcpy(nonces[n++], s->nonce, UUID_SIZE);
        list_for_each (s, &b->strays, link)
                if (is_seen(s))
                        memcpy(nonces[n++], s->nonce, UUID_SIZE);
        if (fails) {
                n = sim_below(n + 1);
                result_set(&r, RESULT_FAILED, "list: no answer");
        }
        sim_trace("%u sandboxes are listed: %s", n, result_code_name(r.code));
        for (unsigned i = 0; i < n; i++)
                show(b, nonces[i]);
        free(nonces);
        backend_listed(&b->backend, &r);
}

int sim_backend_list(struct backend *backend) {
        struct sim_backend *b = container_of(backend, struct sim_backend, backend);
        int64_t delay;

        if (b->cannot_list)
                return -ENOTSUP;
        delay = sim_any_delay(b);
        b->totals.lists++;
        b->list_us = sim.now_us;
        timer_arm(&b->listed, delay < LIST_TIME_MAX_US ? delay : LIST_TIME_MAX_US, on_listed);
        sim_trace("what is there?");
        return 0;
}
