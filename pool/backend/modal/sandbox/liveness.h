/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The liveness poll: whether a sandbox still is there, and why not. While nothing runs in it, nothing else would tell.
 *
 *   stopped → queued → polling → queued …    or, after a failure, it waits for a while
 *   any of these → ended → lost              something else tells that it has ended: one more poll asks for the cause
 *
 * Modal holds the answer back until the sandbox has ended. Each such call costs memory here, a place on a connection,
 * and work by curl for whatever comes over that; so with more than LIVENESS_POLLS_MAX sandboxes they take turns by a
 * queue, one for each client: then a death is noticed a while later, or by the next job.
 *
 * Embedded in its sandbox.
 */

#include <uv.h>

#include "pool/backend/modal/exec/process.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/rpc/control.h"
#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/list.h"

struct modal_liveness_queue {
        struct list waiting; /* the next one first */
        unsigned n_polls;    /* under way */
};

struct modal_liveness {
        void (*lost)(struct modal_liveness *l, const char *what); /* the event: the sandbox has ended, and of what */
        struct modal_liveness_queue *queue;
        struct modal_control *control;
        const struct modal_identity *identity;
        const struct modal_processes *processes; /* while there are any, they notice its end themselves */
        struct list link;        /* in the queue's waiting */
        struct modal_call *call; /* NULL: no poll is under way */
        int64_t asked_us;        /* since when it is … */
        float hold_secs;         /* … and for how long the answer is held back */
        int status;              /* how it has ended, by Modal's answer (MODAL_RESULT_NONE: not known) … */
        int exit_code;           /* … and with which code */
        bool ended;              /* something else tells that it has: its cause is asked for … */
        int64_t give_up_us;      /* … until then */
        char *what;              /* that in words; or NULL */
        uv_timer_t timer;        /* until it is queued again; closed by the sandbox */
};

void modal_liveness_queue_init(struct modal_liveness_queue *q);

void modal_liveness_init(struct modal_liveness *l, struct modal_liveness_queue *queue, struct modal_control *control,
                         const struct modal_identity *identity, const struct modal_processes *processes,
                         void (*lost)(struct modal_liveness *l, const char *what));

void modal_liveness_deinit(struct modal_liveness *l);

/* Poll again and again, until it is stopped or lost. */
void modal_liveness_start(struct modal_liveness *l);
void modal_liveness_stop(struct modal_liveness *l);

/*
 * The sandbox has ended, as a router or the control plane says by @what, also before the first poll. Then lost() comes:
 * at once if the cause is known, else when Modal has told it, and after CAUSE_WAIT_US at the latest.
 */
void modal_liveness_ended(struct modal_liveness *l, const char *what);
