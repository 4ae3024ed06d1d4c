/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the Modal backend share; nobody else includes this. */

#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/backend/modal/client.h"
#include "pool/backend/modal/exec/process.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/rpc/control.h"
#include "pool/backend/modal/rpc/router.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/net/grpc.h"
#include "pool/net/retry.h"
#include "pool/util/list.h"
#include "pool/util/uuid.h"

enum { MODAL_N_TAGS = 5 };

#define MODAL_TAG_POOL "modalpool-pool"
#define MODAL_TAG_CREATE "modalpool-create" /* its value is the nonce */

/* sandbox/list.c: all sandboxes with one tag */

struct modal_listing_spec {
        struct modal_tag tag;
        const char *want; /* the name of a tag, whose value is wanted too */
        int64_t attempt_us, retry_for_us; /* for each page */
        /* -errno ends it. */
        int (*take)(void *owner, const struct modal_info *info);
        void (*done)(void *owner, const struct grpc_status *status);
};

struct modal_listing {
        struct modal *modal;
        struct modal_listing_spec spec;
        void *owner;
        struct modal_call *call; /* NULL: none is under way */
        double before, last;     /* creation of the last one of the page before, and of this one */
        unsigned n;
};

struct modal {
        struct backend backend;
        struct modal_client client;
        struct modal_endpoint control;

        /* settings */
        char *app, *image, *shell;
        char **commands; /* of the image: "FROM …" and those of the dockerfile */
        size_t n_commands;
        char **secrets, **secret_ids;
        size_t n_secrets;
        struct modal_volume *volumes;
        size_t n_volumes;
        char **regions, **cidrs;
        size_t n_regions, n_cidrs;
        char *cloud, *gpu_type;
        struct modal_definition definition; /* borrows all of these */
        char pool_id[UUID_SIZE], host[64], mount[64];

        /* start */
        enum backend_use use;
        struct modal_call *call;
        size_t next; /* secret or volume to be looked up */
        char *builder_version, *app_id, *image_id, *entry_id;
        struct modal_result build;
        struct buf build_line; /* of the image's log, not yet whole */
        char *last_line;       /* the newest that was, or NULL */

        struct list unlooked; /* sandboxes whose turn to be looked after comes, the next one first */
        unsigned n_looks;
        struct modal_listing listing; /* of this pool's sandboxes */
};

static inline struct modal *modal_of(struct backend *b) {
        return container_of(b, struct modal, backend);
}

/* start.c */

int modal_start(struct backend *b, enum backend_use use);

/* sandbox/list.c */

/* 0, -EBUSY while it is under way, or -errno; then take() and done() come, unless it is cancelled. */
int modal_listing_start(struct modal *m, struct modal_listing *l, const struct modal_listing_spec *spec, void *owner);
void modal_listing_cancel(struct modal_listing *l);

/* sandbox/create.c, sandbox/sandbox.c, sandbox/terminate.c: a sandbox */

enum modal_step {
        MODAL_STEP_CREATE, /* SandboxCreate */
        MODAL_STEP_TASK,   /* SandboxGetTaskId */
        MODAL_STEP_PROBE,  /* access, and a first process */
        MODAL_STEP_ADOPT,  /* the same, in one of an earlier run */
        MODAL_STEP_LIVE,
        MODAL_STEP_FAILED, /* or dead, or about to be ended or left */
        MODAL_STEP_FIND,   /* did a create that was not answered make one? */
        MODAL_STEP_TERMINATE,
        MODAL_STEP_ENDED,
};

struct modal_sandbox {
        struct sandbox sandbox;
        enum modal_step step;
        struct modal_router router;
        char *task_id;
        char *resume_token;             /* once it is live */
        char nonce[UUID_SIZE];    /* the tag that only this create has */
        int64_t began_us;         /* its lifetime counts from here at the earliest */
        int64_t began_wall_us;    /* the same moment */
        uint32_t lifetime_secs;
        bool unsure;              /* the create failed, and may have made one */
        struct modal_call *call;  /* of the step; that of the create goes on while it is looked for */
        struct list link_look;    /* in the backend's unlooked */
        struct modal_call *look;  /* whether it still runs */
        int64_t looked_us;        /* since when that is asked … */
        float look_secs;          /* … and for how long the answer is held back */
        struct modal_process *process; /* probe, proof of life or clean-up */
        struct modal_process *existence; /* whether anything still runs there */
        struct buf kept;          /* what the probe said: which processes are its own */
        struct buf said;          /* the clean-up's output */
        struct modal_processes processes;
        bool start_unsure;        /* one that nobody listens to may or may not have been started */
        char *to_clean;           /* the workdir of a clean-up that waits for these, or NULL */
        uv_timer_t timer;         /* of create, then of looking, then of destroy */
        uv_timer_t soon;          /* to say from a clean stack that it died */
        struct result why;        /* … and of what */
        bool dying;
        struct modal_listing listing; /* at the end: of those that its create made … */
        struct buf found;             /* … their ids, each with its NUL … */
        size_t found_at;              /* … and how many bytes of them are done with */
        int64_t end_by_us;
        struct result ended;      /* what went wrong at the end */
        unsigned n_handles;
};

static inline struct modal_sandbox *modal_sandbox_of(struct sandbox *s) {
        return container_of(s, struct modal_sandbox, sandbox);
}

static inline struct modal *modal_sandbox_modal(struct modal_sandbox *s) {
        return modal_of(s->sandbox.backend);
}

int modal_create(struct backend *b, const char *nonce, struct sandbox **out);
int modal_adopt(struct backend *b, const char *nonce, const char *resume_token, struct sandbox **out);
void modal_leave(struct sandbox *s);
void modal_destroy(struct sandbox *s);
/* The create was answered while its sandbox is to be ended. */
void modal_sandbox_born_late(struct modal_sandbox *s);

/* NULL when there is no memory. */
struct modal_sandbox *modal_sandbox_new(struct modal *m, const char *nonce);
/* Its memory goes with the next turns of the loop. */
void modal_sandbox_close(struct modal_sandbox *s);
/* Listen to nothing of it any more, but for the call of the step. */
void modal_sandbox_quiet(struct modal_sandbox *s);
void modal_sandbox_created(struct modal_sandbox *s, const struct result *r);
/* Ask whether it still runs, again and again, when its turn comes. */
void modal_sandbox_look(struct modal_sandbox *s);
int modal_clean(struct sandbox *s, const char *workdir);
/* Its task id is known. */
void modal_sandbox_has_task(struct modal_sandbox *s);

/* It is gone: say so, later. */
void modal_sandbox_lost(struct modal_sandbox *s, const char *what);

/* Say from a clean stack that it cannot be used. */
void modal_sandbox_fail_soon(struct modal_sandbox *s, const struct result *why);

/* exec/exec.c */

int modal_exec(struct sandbox *s, const struct exec_spec *spec, struct exec **out);
void modal_exec_signal(struct exec *e, int signo);
int modal_exec_poll(struct exec *e);
void modal_exec_kill(struct exec *e, int64_t grace_us);
void modal_exec_cancel(struct exec *e);
