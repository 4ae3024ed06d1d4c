/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the Modal backend share; nobody else includes this. */

#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/backend/modal/client.h"
#include "pool/backend/modal/exec/stdin.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/rpc/control.h"
#include "pool/backend/modal/rpc/router.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/net/grpc.h"
#include "pool/net/retry.h"
#include "pool/util/list.h"
#include "pool/util/uuid.h"

struct modal_process;

struct script;

enum { MODAL_N_TAGS = 5 };

#define MODAL_TAG_POOL "modalpool-pool"
#define MODAL_TAG_CREATE "modalpool-create" /* its value is the nonce */

/* sandbox/list.c: all sandboxes with one tag */

struct modal_listing_spec {
        struct modal_tag tag;
        const char *want; /* the name of a tag, whose value is wanted too */
        int64_t attempt_us, patience_us; /* for each page */
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
        struct modal_process *doubt;   /* whether anything still runs there */
        struct buf kept;          /* what the probe said: which processes are its own */
        struct buf said;          /* the clean-up's output */
        struct list processes;    /* all of them … */
        struct list unanswered;   /* … and those nobody listens to, but which may still be started */
        bool start_unsure;        /* one of these may or may not have been */
        char *to_clean;           /* the workdir of a clean-up that waits for these, or NULL */
        uv_timer_t timer;         /* of create, then of looking, then of destroy */
        uv_timer_t soon;          /* to say from a clean stack that it died */
        struct result why;        /* … and of what */
        struct modal_call *riddle; /* what its router does with calls for a process that it does not know … */
        int64_t asked_us;          /* … which was asked then … */
        unsigned asked_generation; /* … by that access */
        bool holds;                /* it holds them back until it does … */
        unsigned holding_peer;     /* … while the router is that one */
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
/* The start of a process that was cancelled is answered; @sure: so that it is known whether it was started. */
void modal_sandbox_start_known(struct modal_sandbox *s, bool sure);

/* The router does not know the process: does it know the sandbox? Either it died, or modal_process_unknown() follows. */
void modal_sandbox_doubt(struct modal_sandbox *s);

/* It is gone: say so, later. */
void modal_sandbox_lost(struct modal_sandbox *s, const char *what);

/* Say from a clean stack that it cannot be used. */
void modal_sandbox_fail_soon(struct modal_sandbox *s, const struct result *why);

/* exec/hold-probe.c */

/* Find out, in a while, whether what is asked of a process may be asked together with its start. */
void modal_riddle(struct modal_sandbox *s);

/* exec/process.c */

struct modal_process_events {
        void (*started)(void *owner); /* may be NULL */
        void (*output)(void *owner, enum stream stream, const void *data, size_t len);
        void (*ended)(void *owner, const struct result *r, int code);
        void (*polled)(void *owner, bool running); /* NULL where nobody asks */
};

struct modal_process_spec {
        const char *const *args;
        size_t n_args;
        const char *const *env;
        bool keep_stderr;        /* else it is thrown away */
        bool only_start;         /* its start is all that matters: started() or ended() */
        struct modal_feed *feed; /* taken over, also on failure; NULL: nothing is written */
        const char *exec_id;     /* NULL: a new one */
        bool resume;             /* it was started by an earlier run: only follow it … */
        uint64_t offsets[2];     /* … from here */
        int64_t patience_us;     /* for its start; 0: START_PATIENCE_US */
};

/* 0 or -errno; then events come, until ended() or a cancel. */
int modal_process_start(struct modal_sandbox *s, const struct modal_process_spec *spec,
                        const struct modal_process_events *events, void *owner, struct modal_process **out);
void modal_process_cancel(struct modal_process *p);

/* Ask whether it still runs, once it has started. 0 or -errno; then polled() comes, unless ended() does. */
int modal_process_poll(struct modal_process *p);

/* Stop listening to all that nobody else cancels; and do not even wait for the answers to their starts. */
void modal_processes_cancel(struct modal_sandbox *s);
void modal_processes_forget(struct modal_sandbox *s);

/* The sandbox lives, but those of its processes that asked do not exist there. */
void modal_processes_unknown(struct modal_sandbox *s);

/*
 * Run a script, for which @how says more. @made: what its making came to; a script that could not be made is not run.
 * The script's memory is gone afterwards. Else as modal_process_start().
 */
int modal_run_script(struct modal_sandbox *s, struct script *script, int made, const struct modal_process_spec *how,
                     const struct modal_process_events *events, void *owner, struct modal_process **out);
void modal_no_output(void *owner, enum stream stream, const void *data, size_t len);

/* exec/exec.c */

int modal_exec(struct sandbox *s, const struct exec_spec *spec, struct exec **out);
void modal_exec_signal(struct exec *e, int signo);
int modal_exec_poll(struct exec *e);
void modal_exec_kill(struct exec *e, int64_t grace_us);
void modal_exec_cancel(struct exec *e);
