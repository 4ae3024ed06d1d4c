/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How a sandbox comes to us: by a create, or from an earlier run.
 *
 *   request → task → ready → probe → over   over: created() was given, or it was cancelled
 *   request → ready                         a V2 sandbox: its answer to the request has the task
 *   task, request → probe                   without option ready=
 *   adopt → over                            any state → over, when it fails or takes too long
 *
 * The probe comes behind the readiness probe: what runs when the sandbox is ready belongs to it, and no clean-up ends
 * that. The probe is our first process: it shows that commands run there, and names the processes that belong to the sandbox
 * and not to any job. An adopted one runs it too, as a proof that it lives, but what it says does not count: jobs of the
 * earlier run may be there.
 *
 * The request itself (request.h) cannot be taken back: when the sandbox is to end before it is answered, it goes on, and
 * answered() tells what came.
 *
 * Embedded in its sandbox.
 */

#include <stdbool.h>
#include <uv.h>

#include "pool/backend/modal/exec/process.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/sandbox/readiness.h"
#include "pool/backend/modal/sandbox/request.h"
#include "pool/backend/modal/template.h"

enum modal_create_state {
        MODAL_CREATE_OVER,
        MODAL_CREATE_REQUEST, /* SandboxCreateV2, or SandboxCreate */
        MODAL_CREATE_TASK,    /* SandboxGetTaskId */
        MODAL_CREATE_READY,   /* its readiness probe, where option ready= gives it one */
        MODAL_CREATE_PROBE,   /* access, and a first process */
        MODAL_CREATE_ADOPT,   /* the same, in one of an earlier run */
};

struct modal_create;

struct modal_create_events {
        /* It is live, or why not. Once, unless cancelled or withdrawn. */
        void (*created)(struct modal_create *c, const struct result *r);
        /* After a withdrawal: the create is answered. */
        void (*answered)(struct modal_create *c);
};

struct modal_create {
        const struct modal_create_events *events;
        const struct modal_template *template;
        struct modal_identity *identity;
        struct modal_processes *processes;
        enum modal_create_state state;
        struct modal_request request;
        bool unsure; /* the request failed, and may have made one all the same */
        struct modal_call *call; /* for the task */
        struct modal_readiness readiness;
        struct modal_process *process;
        uv_timer_t timer; /* closed by the sandbox */
};

void modal_create_init(struct modal_create *c, const struct modal_create_events *events,
                       struct modal_template *template, struct modal_identity *identity, struct modal_router *router,
                       struct modal_processes *processes);

/* 0 or -errno; then created() comes. */
int modal_create_start(struct modal_create *c);

/* As above, for the one with this resume token, which is not "". -EINVAL: it is none. */
int modal_create_adopt(struct modal_create *c, const char *resume_token);

/* Stop; but a request that is under way goes on. True: it is, and answered() will come. */
bool modal_create_withdraw(struct modal_create *c);

/* Stop all of it. */
void modal_create_cancel(struct modal_create *c);
