/* SPDX-License-Identifier: MIT */
#include "pool/environment/environment.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/environment/fleet.h"
#include "pool/environment/limits.h"
#include "pool/environment/snapshot.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/random.h"

static const char *const state_names[] = {
        [ENVIRONMENT_CREATING] = "creating",
        [ENVIRONMENT_IDLE] = "idle",
        [ENVIRONMENT_LEASED] = "leased",
        [ENVIRONMENT_CLEANING] = "cleaning",
        [ENVIRONMENT_ENDING] = "ending",
};

const char *environment_state_name(enum environment_state state) {
        return state_names[state];
}

struct sandbox *environment_sandbox(const struct environment *e) {
        return e->sandbox;
}

const char *environment_nonce(const struct environment *e) {
        return e->nonce;
}

const char *environment_workdir(const struct environment *e) {
        return e->workdir;
}

const char *environment_id(const struct environment *e) {
        return e->sandbox->id;
}

static const char *lease_name(const struct environment *e) {
        return e->claim ? e->claim->name : NULL;
}

static void report(const struct environment *e, const char *what, const char *reason) {
        event_emit(e->all->ring, "environment", e->sandbox->id, what, lease_name(e), reason);
}

static const uint32_t next_states[ENVIRONMENT_N_STATES] = {
        [ENVIRONMENT_CREATING] = TRANSITION_TO(ENVIRONMENT_IDLE) | TRANSITION_TO(ENVIRONMENT_LEASED) |
                                 TRANSITION_TO(ENVIRONMENT_CLEANING) | TRANSITION_TO(ENVIRONMENT_ENDING),
        [ENVIRONMENT_IDLE] = TRANSITION_TO(ENVIRONMENT_LEASED) | TRANSITION_TO(ENVIRONMENT_ENDING),
        [ENVIRONMENT_LEASED] = TRANSITION_TO(ENVIRONMENT_IDLE) | TRANSITION_TO(ENVIRONMENT_CLEANING) |
                               TRANSITION_TO(ENVIRONMENT_ENDING),
        [ENVIRONMENT_CLEANING] = TRANSITION_TO(ENVIRONMENT_IDLE) | TRANSITION_TO(ENVIRONMENT_ENDING),
};

const struct transitions environment_transitions = {
        .what = "environment",
        .key = "environment",
        .n = ENVIRONMENT_N_STATES,
        .names = state_names,
        .to = next_states,
};

/* Put the environment into the list of its state. The newest idle one is lent first. */
static void enter_state(struct environment *e, enum environment_state state) {
        struct environments *all = e->all;

        e->state = state;
        e->since_us = all->clock();
        all->count[state]++;
        all->fleet->count[state]++;
        if (state == ENVIRONMENT_IDLE)
                list_add_head(&all->in[state], &e->link);
        else
                list_add_tail(&all->in[state], &e->link);

        log_debug("environment=%s lease=%s: %s", e->sandbox->id, lease_name(e) ?: "-", state_names[state]);
        report(e, state_names[state], NULL);
}

static void leave_state(struct environment *e) {
        list_remove(&e->link);
        e->all->count[e->state]--;
        e->all->fleet->count[e->state]--;
}

/* The one place where an environment changes state. */
static void environment_set_state(struct environment *e, enum environment_state state) {
        if (!transition_check(&environment_transitions, e->sandbox->id, e->state, state))
                return;
        probe_cancel(&e->probe);
        leave_state(e);
        enter_state(e, state);
}

int environment_write(struct environment *e) {
        const char *resume_token = e->sandbox ? e->sandbox->resume_token : NULL;

        return journal_put_environment(e->all->journal, &(struct journal_environment){
                                                                .nonce = e->nonce,
                                                                .pool = e->all->serial,
                                                                .id = e->sandbox ? e->sandbox->id : "",
                                                                .resume_token = resume_token ?: e->resume_token ?: "",
                                                                .workdir = e->workdir,
                                                                .user = e->user,
                                                                .uses = e->uses,
                                                                .ending = e->ending,
                                                                .created_us = e->created_us,
                                                        });
}

void environment_terminate(struct environment *e) {
        bool alive = e->sandbox->state == SANDBOX_CREATING || e->sandbox->state == SANDBOX_LIVE;

        assert(!e->claim);
        environment_set_state(e, ENVIRONMENT_ENDING);
        if (e->all->leaving && alive) {
                e->left = true;
                sandbox_leave(e->sandbox);
                return;
        }
        e->ending = true;
        (void)environment_write(e); /* else the next run finds out by itself that it is gone */
        sandbox_destroy(e->sandbox);
}

/* In the order of their deadlines: one that has waited begins anew. */
static void begin_cleaning(struct environment *e) {
        e->deadline_us = clock_after(e->all->clock(), CLEAN_TIMEOUT_US);
        if (!e->waits) {
                environment_set_state(e, ENVIRONMENT_CLEANING);
                return;
        }
        e->waits = false;
        list_remove(&e->link);
        list_add_tail(&e->all->in[ENVIRONMENT_CLEANING], &e->link);
}

int environment_clean(struct environment *e) {
        int r = sandbox_clean(e->sandbox, e->workdir);

        if (r < 0)
                return r;
        begin_cleaning(e);
        return 0;
}

void environment_wait(struct environment *e) {
        begin_cleaning(e);
        e->waits = true;
}

void environment_set_idle(struct environment *e) {
        environment_set_state(e, ENVIRONMENT_IDLE);
        e->idle_extra = (unsigned)random_below(e->all->random, 1001);
}

int64_t environment_idle_end(const struct environment *e) {
        int64_t most = e->all->config->idle_timeout_us;

        return most ? clock_after(e->since_us, most + most / 10 * e->idle_extra / 1000) : USEC_NEVER;
}

/*
 * An environment is lent until min_life before its end, which we or the provider set. It is lent for half of its life
 * in any case: else environments with short lives would all end unused.
 */
void environment_update_retirement(struct environment *e) {
        const struct config *c = e->all->config;
        int64_t end = c->max_lifetime_us ? clock_after(e->created_us, c->max_lifetime_us) : USEC_NEVER, half;

        if (e->sandbox->expires_us && e->sandbox->expires_us < end)
                end = e->sandbox->expires_us;
        e->retire_us = end;
        if (end == USEC_NEVER)
                return;
        half = e->created_us + (end - e->created_us) / 2;
        e->retire_us = end - c->min_life_us > half ? end - c->min_life_us : half;
}

bool environment_is_for(const struct environment *e, uid_t uid) {
        return e->user == uid || e->user == ENVIRONMENT_NO_USER;
}

void environment_lease(struct environment *e, struct claim *c) {
        assert(environment_is_for(e, c->uid) && c->state == CLAIM_NONE);
        c->state = CLAIM_GRANTED;
        c->environment = e;
        e->user = c->uid;
        e->claim = c;
        environment_set_state(e, ENVIRONMENT_LEASED);
}

void environment_take_back(struct environment *e) {
        e->claim->state = CLAIM_NONE;
        e->claim->environment = NULL;
        e->claim = NULL;
}

int environment_use(struct environment *e, const char *workdir) {
        int r;

        if (e->workdir)
                return 0;
        e->workdir = strdup(workdir);
        if (!e->workdir)
                return -ENOMEM;
        r = environment_write(e);
        if (r < 0)
                free(TAKE_PTR(e->workdir));
        return r;
}

/* events of its sandbox */

static void on_adopted(struct environment *e, const struct result *r) {
        struct environments *all = e->all;
        struct result why;

        if (!result_ok(r)) {
                result_set(&why, RESULT_LOST, "%s", r->text); /* whatever the cause, it is given up */
                if (e->snapshot)
                        environment_snapshot_fail(e->snapshot, &why);
                all->events->died(all->owner, e, &why);
                return;
        }
        probe_passed(&e->probe);
        environment_update_retirement(e);
        (void)environment_write(e); /* what is used to find it again may have changed */
        log_info("environment=%s lease=%s: taken back", e->sandbox->id, lease_name(e) ?: "-");
        report(e, "adopted", NULL);
        if (e->snapshot)
                environment_snapshot_go_on(e->snapshot);
        all->events->adopted(all->owner, e);
}

static void on_created(void *owner, const struct result *r) {
        struct environment *e = owner;
        struct environments *all = e->all;

        if (e->adopted) {
                on_adopted(e, r);
                return;
        }
        if (result_ok(r)) {
                e->created_us = all->clock();
                environment_update_retirement(e);
                probe_passed(&e->probe);
                (void)environment_write(e); /* if this fails, the next run finds it by its nonce and terminates it */
        } else {
                log_warning("environment: create failed: %s", r->text);
                report(e, "create-failed", r->text);
        }
        all->events->created(all->owner, e, r);
}

static void on_died(void *owner, const struct result *why) {
        struct environment *e = owner;

        e->all->events->died(e->all->owner, e, why);
}

/* Its events have the first path, the log has all that there are. */
static void report_changes(const struct environment *e, const struct sandbox_changes *changes) {
        _cleanup_(buf_deinit) struct buf paths = BUF_INIT(2 * SANDBOX_CHANGES_SIZE);

        (void)sandbox_changes_render(changes, &paths);
        log_info("environment=%s: not as it was, destroying it; changed or gone: %s", e->sandbox->id, buf_text(&paths));
        report(e, "changed", sandbox_changes_first(changes));
}

static void on_cleaned(void *owner, const struct result *r, const struct sandbox_changes *changes) {
        struct environment *e = owner;

        if (e->state != ENVIRONMENT_CLEANING)
                return; /* given up meanwhile */
        if (!result_ok(r)) {
                log_warning("environment=%s: clean-up failed, destroying it: %s", e->sandbox->id, r->text);
                report(e, "clean-failed", r->text);
        } else if (sandbox_changes_first(changes)) {
                report_changes(e, changes);
        } else {
                probe_passed(&e->probe);
                free(TAKE_PTR(e->workdir));
                (void)environment_write(e); /* else it is cleaned once more */
        }
        e->all->events->cleaned(e->all->owner, e, r, changes);
}

static void on_destroyed(void *owner, const struct result *r) {
        struct environment *e = owner;
        struct environments *all = e->all;
        struct result lost;

        result_set(&lost, RESULT_LOST, "environment %s was ended before the snapshot was taken", e->sandbox->id);
        if (e->snapshot) /* it has not answered since the restart */
                environment_snapshot_fail(e->snapshot, &lost);
        if (!result_ok(r))
                log_error("environment=%s: not ended: %s", e->sandbox->id, r->text);
        report(e, e->left ? "left" : "gone", result_ok(r) ? NULL : r->text);
        if (result_ok(r) && !e->left)
                (void)journal_drop_environment(all->journal, e->nonce);
        leave_state(e);
        HASH_DELETE(hh, all->fleet->by_nonce, e);
        all->events->gone(all->owner, e, r);
        environment_free(e);
}

static const struct sandbox_events sandbox_events = {
        .created = on_created,
        .died = on_died,
        .cleaned = on_cleaned,
        .destroyed = on_destroyed,
};

/* events of its probe */

static void on_probe_over(struct probe *p) {
        struct environment *e = container_of(p, struct environment, probe);

        e->all->events->probe_over(e->all->owner, e);
}

static void on_probe_failed(struct probe *p, const struct result *why) {
        struct environment *e = container_of(p, struct environment, probe);

        e->all->events->died(e->all->owner, e, why);
}

static const struct probe_events probe_events = {
        .over = on_probe_over,
        .failed = on_probe_failed,
};

/* beginning and end */

static struct environment *environment_new(struct environments *all, const char *nonce) {
        struct environment *e = calloc(1, sizeof(*e));

        if (!e)
                return NULL;
        list_init(&e->link);
        probe_init(&e->probe, &all->probes);
        e->all = all;
        e->created_us = all->clock();
        e->retire_us = USEC_NEVER;
        e->user = ENVIRONMENT_NO_USER;
        snprintf(e->nonce, sizeof(e->nonce), "%s", nonce);
        return e;
}

void environment_free(struct environment *e) {
        if (!e)
                return;
        free(e->workdir);
        free(e->resume_token);
        free(e);
}

static void cleanup_environment(struct environment **e) {
        environment_free(*e);
}

/* Its sandbox exists: add it to the set. */
static void environment_add(struct environment *e) {
        HASH_ADD_STR(e->all->fleet->by_nonce, nonce, e);
        enter_state(e, ENVIRONMENT_CREATING);
}

int environment_create(struct environments *all) {
        _cleanup_(cleanup_environment) struct environment *e = NULL;
        char nonce[UUID_SIZE];
        int r = uuid_make(nonce);

        if (r < 0)
                return r;
        e = environment_new(all, nonce);
        if (!e)
                return -ENOMEM;
        r = environment_write(e); /* before anybody may hear of it */
        if (r < 0)
                return r;
        r = sandbox_create(all->backend, e->nonce, &sandbox_events, e, &e->sandbox);
        if (r < 0) {
                (void)journal_drop_environment(all->journal, e->nonce);
                return r;
        }
        environment_add(TAKE_PTR(e));
        return 0;
}

int environment_from_row(struct environment **out, struct environments *all, const struct journal_environment *row) {
        _cleanup_(cleanup_environment) struct environment *e = environment_new(all, row->nonce);

        if (!e)
                return -ENOMEM;
        e->adopted = true;
        e->ending = row->ending;
        e->uses = row->uses;
        e->user = row->user;
        e->created_us = row->created_us;
        e->resume_token = strdup(row->resume_token);
        e->workdir = row->workdir ? strdup(row->workdir) : NULL;
        if (!e->resume_token || (row->workdir && !e->workdir))
                return -ENOMEM;
        *out = TAKE_PTR(e);
        return 0;
}

int environment_adopt(struct environment *e) {
        struct backend *b = e->all->fleet->backend;
        const char *resume_token = e->resume_token;
        int r = sandbox_adopt(b, e->nonce, resume_token, *resume_token && !e->workdir, &sandbox_events, e, &e->sandbox);

        if (r == -EINVAL) { /* a resume token that nobody can read */
                resume_token = "";
                r = sandbox_adopt(b, e->nonce, resume_token, false, &sandbox_events, e, &e->sandbox);
        }
        if (r < 0)
                return r;
        environment_add(e);
        if (e->ending || !*resume_token)
                environment_terminate(e);
        return 0;
}

void environments_init(struct environments *all) {
        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                list_init(&all->in[i]);
        probes_init(&all->probes, all->config, all->clock, &probe_events);
}

struct environment *environments_find(const struct fleet *fleet, const char *nonce) {
        struct environment *e;

        HASH_FIND_STR(fleet->by_nonce, nonce, e);
        return e;
}

unsigned environments_count(const struct environments *all) {
        unsigned n = 0;

        for (int i = 0; i < ENVIRONMENT_N_STATES; i++)
                n += all->count[i];
        return n;
}
