/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The end of a sandbox at Modal.
 *
 *   idle → waiting → finding → terminating → over    done(result) once; known ids go straight to terminating
 *
 * One whose create was not answered is looked for by the tag that only its create has, and whatever is found is
 * terminated, for a create that was sent twice may have made two. A create that is still under way is waited for and
 * looked for at once, as long as stop_timeout lets us.
 *
 * Embedded in its sandbox.
 */

#include <stdbool.h>
#include <uv.h>

#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/sandbox/list.h"
#include "pool/backend/modal/template.h"

struct modal_terminate;

struct modal_terminate_events {
        /* The answer to the create does not matter any more. */
        void (*settled)(struct modal_terminate *t);
        /* Not ok: Modal could not be told, or not of all. */
        void (*done)(struct modal_terminate *t, const struct result *r);
};

struct modal_terminate {
        const struct modal_terminate_events *events;
        const struct modal_template *template;
        struct modal_identity *identity;
        bool pending; /* the create is not answered yet */
        bool unsure;  /* it failed, and may have made one */
        struct modal_call *call;
        struct modal_listing listing; /* of those that the create made … */
        struct buf found;             /* … their ids, each with its NUL … */
        size_t found_at;              /* … and how many bytes of them are done with */
        int64_t end_by_us;
        struct saved_result failure; /* the first */
        uv_timer_t timer;            /* closed by the sandbox */
};

void modal_terminate_init(struct modal_terminate *t, const struct modal_terminate_events *events,
                          const struct modal_template *template, struct modal_identity *identity);
/* It is done, or was never started. */
void modal_terminate_deinit(struct modal_terminate *t);

/* Once; then done() comes. */
void modal_terminate_start(struct modal_terminate *t, bool pending, bool unsure);

/* The create that was pending is answered: the identity has an id, or it failed. */
void modal_terminate_answered(struct modal_terminate *t, bool unsure);
