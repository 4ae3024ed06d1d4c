/* SPDX-License-Identifier: MIT */

/*
 * How the provider can tell what a lease left: it notes a sandbox when that is made, and a clean-up compares with the note.
 * A job that begins before the note is done spoils it; a note may fail, and may be forgotten with a core. A sandbox
 * without one serves one lease only.
 */

#include "sim-internal.h"

static void forget(struct sim_sandbox *s, const char *why) {
        if (s->note == SIM_NOTE_NONE)
                return;
        sim_trace("%s has no note: %s", s->sandbox.id, why);
        s->note = SIM_NOTE_NONE;
        timer_cancel(&s->noted);
}

static void on_noted(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, noted);

        if (sim_chance(sim_backend_of(s)->rates.note_fails)) {
                forget(s, "that failed");
                return;
        }
        sim_trace("%s is noted", s->sandbox.id);
        s->note = SIM_NOTE_DONE;
}

void sim_note_begin(struct sim_sandbox *s) {
        struct sim_backend *b = sim_backend_of(s);

        if (!b->rates.compares)
                return;
        s->note = SIM_NOTE_BEGUN;
        timer_arm(&s->noted, sim_any_delay(b), on_noted);
}

void sim_note_job_begins(struct sim_sandbox *s) {
        if (s->note == SIM_NOTE_BEGUN)
                forget(s, "a job came first");
        if (sim_backend_of(s)->rates.compares && sim_chance(sim_backend_of(s)->rates.job_changes))
                s->changed = true;
}

void sim_note_clean_begins(struct sim_sandbox *s) {
        if (s->note == SIM_NOTE_BEGUN)
                forget(s, "a clean-up came first");
}

void sim_note_core_ends(struct sim_sandbox *s) {
        if (s->note == SIM_NOTE_BEGUN || sim_chance(200))
                forget(s, "nobody knows of it");
}

bool sim_is_single_use(const struct sandbox *sandbox) {
        const struct sim_sandbox *s = container_of(sandbox, struct sim_sandbox, sandbox);

        return sim_backend_of(s)->rates.compares && s->note == SIM_NOTE_NONE && s->made_us;
}
