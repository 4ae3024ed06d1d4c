/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The note of a sandbox: how it was when it was new, as its helper has it. A clean-up compares with it, where the pool's
 * setup asks for that. Without a note nothing can tell what a lease has left, and the sandbox serves one lease only.
 *
 *   state   on                                              to
 *   -----   ---------------------------------------------   -----
 *   NONE    it is new, and its helper is there              BEGUN
 *   NONE    it is adopted, and its resume token says so     DONE
 *   BEGUN   the helper has noted it                         DONE
 *   BEGUN   it cannot be noted                              NONE
 *   BEGUN   a job, a call about files or a clean-up is first  NONE
 *
 * So that waiting leases do not use up each sandbox before it is noted, a new one becomes live once it is noted; but it
 * is held back for NOTE_HOLD_US at most, and not at all where the last note took longer.
 */

#include <stdbool.h>

#include "pool/backend/backend.h"
#include "pool/helper/client.h"

#define NOTE_HOLD_US (2 * USEC_PER_SEC)

struct helper_sandbox;

enum helper_note {
        HELPER_NOTE_NONE,
        HELPER_NOTE_BEGUN,
        HELPER_NOTE_DONE,
};

/* Of a pool: what is noted and compared. */
struct helper_notes {
        bool compare;
        char *text[2];
        const char **emptied, **unwatched; /* NULL at the end */
        const char **emptied_but_tmp;
        int64_t took_us; /* the last one; 0: none yet */
        bool said;       /* that one could not be made */
        void (*released)(struct helper_sandbox *s); /* it is held back no longer */
};

/* 0 or -errno; it is deinitialised in both cases. */
int helper_notes_init(struct helper_notes *n, const struct backend_setup *setup,
                      void (*released)(struct helper_sandbox *s));
void helper_notes_deinit(struct helper_notes *n);

/* A new sandbox has its helper. True: it is held back until released(). */
bool helper_note_begin(struct helper_sandbox *s);

/* The helper's answer. What follows from it is done in the next turn of the carrier. */
void helper_note_answered(struct helper_sandbox *s, int error, const char *text, size_t len);
void helper_note_turn(struct helper_sandbox *s);

/* A job, a call about files, or a clean-up begins. */
void helper_note_spoil(struct helper_sandbox *s);

/* The sandbox ends: it is not released any more. */
void helper_note_stop(struct helper_sandbox *s);

bool helper_note_is_missing(const struct helper_sandbox *s);

/* What a clean-up has to do. All is borrowed. */
void helper_note_cleanup(const struct helper_sandbox *s, const char *workdir, struct client_cleanup *out);
