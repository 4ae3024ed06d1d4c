/* SPDX-License-Identifier: MIT */
#include "sim-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/environment/limits.h"
#include "pool/util/clock.h"

struct sim_backend *sim_backend_of(const struct sim_sandbox *s) {
        return s->provider;
}

int64_t sim_any_delay(const struct sim_backend *b) {
        return b->rates.delay_max_us ? (int64_t)prng_scaled(&sim.prng, b->rates.delay_max_us) : SIM_DELAY_US;
}

struct sim_sandbox *sim_backend_find(struct sim_backend *b, const char *id) {
        struct sim_sandbox *s;

        list_for_each (s, &b->sandboxes, link)
                if (!strcmp(s->sandbox.id, id))
                        return s;
        return NULL;
}

/* creation and death */

void sim_sandbox_die(struct sim_sandbox *s) {
        struct sim_backend *b = sim_backend_of(s);
        struct result why;

        timer_cancel(&s->died);
        timer_cancel(&s->snapshotted);
        s->dead = true;
        b->totals.died++;
        sim_trace("%s dies", s->sandbox.id);
        if (b->hooks && b->hooks->dying)
                b->hooks->dying(s);
        result_set(&why, RESULT_LOST, "environment %s: died", s->sandbox.id);
        sandbox_died(&s->sandbox, &why);
}

static void on_died(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, died);

        if (s->sandbox.state == SANDBOX_LIVE) {
                sim_sandbox_die(s);
                return;
        }
        sim_trace("%s dies, unheard", s->sandbox.id);
        s->dead = true;
        sim_exec_discard_all(s);
}

/* It lives from now on. */
static void be_born(struct sim_sandbox *s) {
        const struct sim_rates *rates = &sim_backend_of(s)->rates;

        s->made_us = s->idle_since_us = s->checked_us = sim.now_us;
        sim_note_begin(s);
        if (sim_chance(rates->expires))
                s->expires_us = sim.now_us + 1 + (int64_t)sim_below(3600 * USEC_PER_SEC);
        if (sim_chance(rates->dies))
                timer_arm(&s->died, prng_scaled(&sim.prng, rates->life_max_us), on_died);
}

static void on_created(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, created);
        struct sim_backend *b = sim_backend_of(s);
        static const enum result_code hopeless[] = { RESULT_INVALID, RESULT_DENIED };
        static const enum result_code transient[] = { RESULT_FAILED, RESULT_TIMEOUT };
        bool heard = s->sandbox.state == SANDBOX_CREATING;
        struct result r = {};

        if (sim_chance(b->rates.create_hopeless))
                result_set(&r, hopeless[sim_below(2)], "create: refused");
        else if (sim_chance(b->rates.create_fails))
                result_set(&r, transient[sim_below(2)], "create: did not work");
        else if (b->rates.create_no_room && sim_chance(b->rates.create_no_room))
                result_set(&r, RESULT_BUSY, "create: no room");
        sim_trace("%s created%s: %s", s->sandbox.id, heard ? "" : ", unheard", result_code_name(r.code));
        if (result_ok(&r))
                be_born(s);
        else
                s->gone = true;
        if (!heard)
                return;
        s->has_resume_token = result_ok(&r);
        s->sandbox.resume_token = s->has_resume_token ? s->resume_token : NULL;
        s->sandbox.expires_us = s->expires_us;
        b->totals.created += result_ok(&r);
        b->totals.create_failures += !result_ok(&r);
        if (b->hooks && b->hooks->created)
                b->hooks->created(s, &r);
        sandbox_created(&s->sandbox, &r);
}

static int op_create(struct backend *backend, const char *nonce, struct sandbox **out) {
        struct sim_backend *b = container_of(backend, struct sim_backend, backend);
        bool refused = sim_chance(b->rates.create_refused);
        struct sim_sandbox *s;

        if (b->hooks && b->hooks->creating)
                b->hooks->creating(refused);
        if (refused) {
                sim_trace("create refused");
                return -EAGAIN;
        }
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        b->totals.creates++;
        s->number = ++b->last_number;
        s->sent_us = sim.now_us;
        snprintf(s->nonce, sizeof(s->nonce), "%s", nonce);
        snprintf(s->resume_token, sizeof(s->resume_token), "token-%u", s->number);
        list_init(&s->link);
        list_init(&s->execs);
        list_init(&s->past);
        sim_sandbox_take(b, s);
        timer_arm(&s->created, sim_chance(b->rates.create_slow) ? (int64_t)sim_below(600 * USEC_PER_SEC) : sim_any_delay(b),
                  on_created);
        sim_trace("%s creating", s->sandbox.id);
        *out = &s->sandbox;
        return 0;
}

/* the end of a sandbox */

void sim_sandbox_take(struct sim_backend *b, struct sim_sandbox *s) {
        s->sandbox = (struct sandbox){ .backend = &b->backend };
        s->provider = b;
        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "sb-%u", s->number);
        list_remove(&s->link);
        list_add_tail(&b->sandboxes, &s->link);
}

void sim_sandbox_stray(struct sim_sandbox *s, bool gone) {
        struct sim_backend *b = sim_backend_of(s);

        sim_trace("%s is nobody's%s", s->sandbox.id, gone ? ", and gone" : "");
        s->gone = s->gone || gone || s->dead;
        list_remove(&s->link);
        list_add_tail(&b->strays, &s->link);
}

void sim_sandbox_free(struct sim_sandbox *s) {
        struct timer *const timers[] = { &s->created, &s->died, &s->cleaned, &s->destroyed, &s->adopted, &s->noted,
                                         &s->snapshotted };

        for (size_t i = 0; i < sizeof(timers) / sizeof(timers[0]); i++)
                timer_cancel(timers[i]);
        sim_exec_discard_all(s);
        sim_exec_forget_past(s);
        list_remove(&s->link);
        free(s);
}

/* Its end was asked for by a core that has ended itself since. */
static void end_unheard(struct sim_sandbox *s) {
        sim_trace("%s destroyed, unheard", s->sandbox.id);
        s->gone = true;
        timer_cancel(&s->died);
        timer_cancel(&s->noted);
        sim_exec_discard_all(s);
}

/* The request to end it, or its answer, was lost. A sandbox that did not exist by then may still be made. */
void sim_sandbox_on_destroyed(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, destroyed);
        struct sim_backend *b = sim_backend_of(s);
        bool unborn = s->created.place, stays;
        struct result r = {};

        if (s->given_up) {
                end_unheard(s);
                return;
        }
        if (sim_chance(b->rates.destroy_fails)) {
                b->totals.destroy_failures++;
                result_set(&r, RESULT_FAILED, "destroy: no answer");
        }
        b->totals.destroyed++;
        sim_trace("%s destroyed: %s", s->sandbox.id, result_code_name(r.code));
        timer_cancel(&s->cleaned);
        timer_cancel(&s->noted);
        timer_cancel(&s->snapshotted);
        s->doomed = true;
        /* A core that stops may fail to write that down; its successor asks after one that is gone, then. */
        stays = unborn || !result_ok(&r) || b->core == SIM_CORE_LEAVES;
        if (stays)
                sim_sandbox_stray(s, !unborn && (result_ok(&r) || !s->made_us || sim_chance(500)));
        sandbox_destroyed(&s->sandbox, &r);
        s->given_up = true;
        if (!stays)
                sim_sandbox_free(s);
}

static void op_destroy(struct sandbox *sandbox) {
        struct sim_sandbox *s = container_of(sandbox, struct sim_sandbox, sandbox);
        struct sim_backend *b = sim_backend_of(s);

        if (b->core == SIM_CORE_CRASHES)
                return;
        SIM_CHECK(!s->destroyed.place, "%s is destroyed twice", sandbox->id);
        SIM_CHECK(!sim_exec_is_heard(s), "%s is destroyed under a job", sandbox->id);
        SIM_CHECK(!s->probe, "%s is destroyed under a probe", sandbox->id);
        sim_trace("%s ending%s", sandbox->id, s->tenant ? ", not clean" : "");
        if (sandbox->cleaning && !s->dead && b->hooks && b->hooks->giving_up_clean)
                b->hooks->giving_up_clean(s);
        if (b->hooks && b->hooks->destroying)
                b->hooks->destroying(s);
        sim_exec_discard_all(s);
        if (!s->adopted_by_nonce || sim_chance(500))
                timer_cancel(&s->created);
        timer_cancel(&s->died);
        timer_cancel(&s->adopted);
        /* Its answer may still come: nobody may listen any more. */
        if (sim_chance(500))
                timer_cancel(&s->cleaned);
        timer_arm(&s->destroyed,
                  sim_chance(b->rates.destroy_slow) ? (int64_t)sim_below(60 * USEC_PER_SEC) : sim_any_delay(b),
                  sim_sandbox_on_destroyed);
}

static void on_cleaned(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, cleaned);
        struct sim_backend *b = sim_backend_of(s);
        struct sandbox_changes changes = {};
        struct result r = {};

        if (sim_chance(b->rates.clean_fails))
                result_set(&r, RESULT_FAILED, "clean: processes are left");
        if (result_ok(&r) && s->changed)
                sandbox_changes_add(&changes, "/changed");
        sim_trace("%s cleaned: %s%s", s->sandbox.id, result_code_name(r.code), changes.len > 0 ? ", changed" : "");
        if (changes.len > 0) {
                s->found_changed = s->sandbox.cleaning;
        } else if (result_ok(&r)) {
                s->tenant = 0;
                s->workdir_made = s->in_use_before = false;
                s->bad_probes = 0;
                s->idle_since_us = s->checked_us = sim.now_us;
        } else {
                s->clean_failed = s->sandbox.cleaning;
        }
        if (s->sandbox.state == SANDBOX_LIVE && s->sandbox.cleaning) {
                b->totals.cleaned += result_ok(&r) && changes.len == 0;
                b->totals.changed += changes.len > 0;
                b->totals.clean_failures += !result_ok(&r);
        }
        if (s->sandbox.cleaning)
                sandbox_cleaned(&s->sandbox, &r, &changes);
}

static int op_clean(struct sandbox *sandbox, const char *workdir) {
        struct sim_sandbox *s = container_of(sandbox, struct sim_sandbox, sandbox);
        struct sim_backend *b = sim_backend_of(s);
        int64_t delay = sim_any_delay(b);

        SIM_CHECK(!sim_exec_is_heard(s) && !s->probe, "%s is cleaned under a job", sandbox->id);
        SIM_CHECK(!s->clean_failed, "%s is cleaned again after that failed", sandbox->id);
        SIM_CHECK(!s->found_changed, "%s is cleaned again after it was found changed", sandbox->id);
        SIM_CHECK(!sim_is_single_use(sandbox), "%s is cleaned, and nothing can come of that", sandbox->id);
        SIM_CHECK(!s->tenant || !strcmp(workdir, s->workdir), "%s: %s is cleaned away, %s was used", sandbox->id,
                  workdir, s->workdir);
        if (sim_chance(b->rates.clean_refused)) {
                sim_trace("%s clean refused", sandbox->id);
                s->clean_refused = true;
                return -EIO;
        }
        if (sim_chance(b->rates.clean_hangs))
                delay = 2 * CLEAN_TIMEOUT_US;
        sim_exec_discard_all(s);
        sim_exec_forget_past(s);
        sim_note_clean_begins(s);
        s->clean_since_us = sim.now_us;
        timer_arm(&s->cleaned, delay, on_cleaned);
        sim_trace("%s cleaning %s", sandbox->id, workdir);
        return 0;
}

static int op_start(struct backend *b, enum backend_use use) {
        return 0;
}

static void op_free(struct backend *b) {
}

const struct backend_ops sim_backend_ops = {
        .name = "simulated",
        .start = op_start,
        .free = op_free,
        .create = op_create,
        .adopt = sim_backend_adopt,
        .list = sim_backend_list,
        .leave = sim_sandbox_leave,
        .destroy = op_destroy,
        .is_single_use = sim_is_single_use,
        .clean = op_clean,
        .snapshot = sim_snapshot,
        .delete_snapshot = sim_delete_snapshot,
        .exec = sim_exec_start,
        .exec_signal = sim_exec_signal,
        .exec_poll = sim_exec_poll,
        .exec_write = sim_live_write,
        .exec_end_input = sim_live_changed,
        .exec_hold_output = sim_live_changed,
        .exec_kill = sim_exec_kill,
        .exec_cancel = sim_exec_cancel,
};

static const struct backend_client_ops client_ops = {};

void sim_backend_init(struct sim_backend *b, const struct sim_rates *rates, const struct sim_hooks *hooks) {
        *b = (struct sim_backend){ .client.ops = &client_ops, .backend.ops = &sim_backend_ops, .rates = *rates, .hooks = hooks };
        backend_attach(&b->backend, &b->client);
        list_init(&b->sandboxes);
        list_init(&b->strays);
        list_init(&b->snapshots);
        list_init(&b->deletions);
}
