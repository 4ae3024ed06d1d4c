/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A sandbox of Modal: the parts that make, watch, clean and end it, and what runs in it.
 *
 *   part         its file          until
 *   create       create.h          it is live, or its create failed
 *   liveness     liveness.h        from then on, to its end
 *   processes    exec/process.h    its end, as its router
 *   cleanup      cleanup.h         each return to the pool
 *   snapshot     snapshot.h        each time that one is taken
 *   terminate    terminate.h       it is gone
 *
 * The state is that of struct sandbox in backend.h. The parts do not know the sandbox and not each other, but for the
 * table of processes: they report to sandbox.c by events. The sandbox belongs to its backend; its memory goes with the
 * turns of the loop after destroyed().
 */

#include "pool/backend/modal/exec/process.h"
#include "pool/backend/modal/rpc/router.h"
#include "pool/backend/modal/sandbox/cleanup.h"
#include "pool/backend/modal/sandbox/create.h"
#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/sandbox/liveness.h"
#include "pool/backend/modal/sandbox/snapshot.h"
#include "pool/backend/modal/sandbox/terminate.h"

struct modal_sandbox {
        struct sandbox sandbox;
        struct modal_identity identity;
        char *resume_token; /* once it is live */
        struct modal_router router;
        struct modal_processes processes;
        struct modal_create create;
        struct modal_liveness liveness;
        struct modal_cleanup cleanup;
        struct modal_snapshot snapshot;
        struct modal_terminate terminate;
        struct modal_process *existence; /* whether anything can still be started there */
        uv_timer_t soon;                 /* to say from a clean stack that it failed or died … */
        struct saved_result why;         /* … and of what; or that it was left */
        bool lost;                       /* that is about to be said */
        unsigned n_handles;              /* that are not closed yet */
};

static inline struct modal_sandbox *modal_sandbox_of(struct sandbox *s) {
        return container_of(s, struct modal_sandbox, sandbox);
}

/* For modal.c's table, as backend.h has them. */
int modal_sandbox_create(struct backend *b, const char *nonce, struct sandbox **out);
int modal_sandbox_adopt(struct backend *b, const char *nonce, const char *resume_token, bool unused,
                           struct sandbox **out);
bool modal_sandbox_is_single_use(const struct sandbox *s);
int modal_sandbox_clean(struct sandbox *s, const char *workdir);
int modal_sandbox_snapshot(struct sandbox *s, const char *id);
void modal_sandbox_leave(struct sandbox *s);
void modal_sandbox_destroy(struct sandbox *s);
