/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the pool asks of a provider of sandboxes.
 *
 * Nobody above this header knows a provider, and nobody calls the vtable but
 * backend.c, which checks that both sides keep to the contract below.
 *
 *   backend   start → ready(result), once
 *   sandbox   creating → live → dead        created(result) once, died(why) at most once
 *             creating → failed             created() with a result that is not ok
 *             any of these → ending → gone   destroyed(result), once
 *             (creating is also adopting: to take back one of an earlier run)
 *   exec      starting → running → freed    started() at most once, ended(result, code) once;
 *                                           ended with an ok result only after started()
 *                                           polled(running) once for each exec_poll(), unless ended() comes
 *
 * Everything is asynchronous: a call returns at once, and its answer comes
 * from the loop, never from inside the call. A call that returns -errno did
 * nothing and is never answered. Time limits of create and destroy are the
 * backend's; those of jobs and clean-ups are the caller's.
 *
 * A sandbox belongs to the backend; the caller's pointer is good until
 * destroyed() returns. Likewise an exec, until ended() returns or exec_cancel()
 * is called. A sandbox that died ends no exec by itself: its owner cancels them. Events carry the owner pointer that
 * the call gave.
 *
 * Who makes sandboxes may end without ending them, so each has two names that outlive it: a nonce that the caller
 * chose and wrote down before the create was sent, and a resume token that the backend gives once it is live. With the
 * nonce it can be found and ended, with the resume token also used again.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/util/blob.h"
#include "pool/util/list.h"
#include "pool/util/result.h"
#include "pool/util/transition.h"

#define SANDBOX_ID_MAX 80           /* bytes, with the final NUL */
#define SANDBOX_RESUME_TOKEN_MAX (48 << 10) /* bytes, with the final NUL */

struct backend;
struct sandbox;
struct exec;

/* What a backend is started for. */
enum backend_use {
        BACKEND_TO_CREATE, /* all that new sandboxes need is looked up, or tried */
        BACKEND_TO_END,    /* there will be no new ones: nothing is needed but what it takes to find and end others */
};

enum stream {
        STREAM_STDOUT,
        STREAM_STDERR,
};

/* A sandbox of this pool that the provider knows. */
struct sandbox_found {
        const char *id;
        const char *nonce;
        int64_t created_wall_us; /* by the provider's clock; 0: unknown */
};

/* Calls to the provider since the start: by method and by how they ended, for metrics. */
struct backend_calls {
        const char *method;
        const char *status; /* of the last try: "OK", or what went wrong in the provider's words */
        uint64_t n;         /* calls that ended so */
        uint64_t retries;   /* tries beyond the first, of all these together */
        int64_t took_us;    /* likewise, from the first try to the end */
};

struct backend_events {
        /* The provider is there and accepts us, or why not. */
        void (*ready)(void *owner, const struct result *r);
        /* A line for people about what goes on, such as an image build's log. */
        void (*notice)(void *owner, const char *line);
        /* The answer to backend_list: each sandbox once, then whether that were all. */
        void (*found)(void *owner, const struct sandbox_found *found);
        void (*listed)(void *owner, const struct result *r);
};

struct sandbox_events {
        void (*created)(void *owner, const struct result *r);
        void (*died)(void *owner, const struct result *why);
        /* The answer to sandbox_clean. */
        void (*cleaned)(void *owner, const struct result *r);
        /* Not ok: the provider could not be told, and its own time limit has to end it. */
        void (*destroyed)(void *owner, const struct result *r);
};

struct exec_events {
        void (*started)(void *owner);
        void (*output)(void *owner, enum stream stream, const void *data, size_t len);
        /*
         * All output has been given. @code is the exit code, 128+N for signal N, when @r is ok;
         * else the command never ran, or its end cannot be known, and @r says why. A command that
         * ran without a usable working directory ends with 126 and @r's text saying so; one that was
         * killed may have a text that names the processes that are left.
         */
        void (*ended)(void *owner, const struct result *r, int code);
        /* The answer to exec_poll: not @running means that it has ended, and ended() comes when all output is there. */
        void (*polled)(void *owner, bool running);
};

/* What to run. Everything is borrowed for the time of the call only. */
struct exec_spec {
        const char *id;             /* a UUID, unique for ever; also marks the job's processes */
        bool resume;                /* it was started under this id by an earlier run: do not start it, go on with it */
        uint64_t offsets[2];        /* output() begins at these bytes of its streams, with and without resume */
        const char *shell;          /* run as SHELL -c COMMAND; NULL: bash where there is one, else sh */
        const struct blob *command; /* any bytes but NUL */
        const struct blob *input;   /* standard input; NULL or empty: none */
        const char *workdir;        /* absolute, the lease's own directory */
        const char *cwd;            /* absolute, or relative to workdir; "": the workdir */
        bool fresh;                 /* first empty the workdir of whatever is there; it is made in any case */
        const char *const *env;     /* "KEY=VALUE", a later one wins, NULL at the end */
};

/* The environment variable that marks each process of a job with its exec id. */
#define EXEC_MARK "MODALPOOL_JOB"

struct backend_ops {
        const char *name;
        int (*start)(struct backend *b, enum backend_use use);
        void (*free)(struct backend *b);
        int (*create)(struct backend *b, const char *nonce, struct sandbox **out);
        int (*adopt)(struct backend *b, const char *nonce, const char *resume_token,
                     struct sandbox **out); /* or NULL */
        int (*list)(struct backend *b);                                                               /* or NULL */
        void (*leave)(struct sandbox *s);                                                             /* or NULL */
        void (*each_call)(const struct backend *b, void (*each)(void *data, const struct backend_calls *calls),
                          void *data); /* or NULL */
        void (*destroy)(struct sandbox *s);
        int (*clean)(struct sandbox *s, const char *workdir);
        int (*exec)(struct sandbox *s, const struct exec_spec *spec, struct exec **out);
        void (*exec_signal)(struct exec *e, int signo);
        int (*exec_poll)(struct exec *e);
        void (*exec_kill)(struct exec *e, int64_t grace_us);
        void (*exec_cancel)(struct exec *e);
};

/* For implementations: the head of each concrete object. */
struct backend {
        const struct backend_ops *ops;
        const struct backend_events *events;
        void *owner;
        unsigned n_sandboxes;  /* not yet destroyed */
        struct backend *inner; /* the one that this one wraps, or NULL */
};

enum sandbox_state {
        SANDBOX_CREATING,
        SANDBOX_LIVE,
        SANDBOX_FAILED, /* its create failed, or it could not be adopted */
        SANDBOX_DEAD,
        SANDBOX_ENDING, /* it is being destroyed, or let go of */
        SANDBOX_GONE,   /* destroyed() was given; the backend frees it */
};
#define SANDBOX_N_STATES (SANDBOX_GONE + 1)

/* An event that makes an illegal transition is not passed on; such a call does nothing. */
extern const struct transitions sandbox_transitions;

struct sandbox {
        struct backend *backend;
        const struct sandbox_events *events;
        void *owner;
        enum sandbox_state state;
        bool cleaning;
        unsigned n_execs;
        char id[SANDBOX_ID_MAX]; /* for people and for the provider; "" until known */
        int64_t expires_us;      /* when the provider ends it by itself; 0: never; known once it is live */
        const char *resume_token;      /* known once it is live; NULL: it does not outlive us */
};

struct exec {
        struct sandbox *sandbox;
        const struct exec_events *events;
        void *owner;
        bool started;
};

/* Answered by ready(). */
int backend_start(struct backend *b, enum backend_use use, const struct backend_events *events, void *owner);

/* Sandboxes that are not yet destroyed, with those that a start makes for itself. */
unsigned backend_count(const struct backend *b);

/* No sandbox may be left. A start that is under way is given up, without an answer. NULL is fine. */
void backend_free(struct backend *b);

/*
 * Ask the provider for all sandboxes of this pool, those of earlier runs too. Answered by found() and listed().
 * -ENOTSUP where none outlives us.
 */
int backend_list(struct backend *b);

/* Call @each for every method and status there was. */
void backend_each_call(const struct backend *b, void (*each)(void *data, const struct backend_calls *calls),
                       void *data);

/* @nonce: a new UUID. Answered by created(). */
int sandbox_create(struct backend *b, const char *nonce, const struct sandbox_events *events, void *owner,
                   struct sandbox **out);

/*
 * Take back one that an earlier run created. With its resume token it is asked whether it lives; with "", when its
 * create was never answered, it can only be destroyed. Answered by created(), unless it is destroyed before.
 * -ENOTSUP where none outlives us.
 */
int sandbox_adopt(struct backend *b, const char *nonce, const char *resume_token, const struct sandbox_events *events,
                  void *owner, struct sandbox **out);

/*
 * Let go of it, live as it is, for a later run to adopt; where none outlives us, destroy it. Execs must have been
 * cancelled or have ended. Answered by destroyed().
 */
void sandbox_leave(struct sandbox *s);

/* In any state but ending; execs must have been cancelled or have ended. Answered by destroyed(). */
void sandbox_destroy(struct sandbox *s);

/*
 * Kill every process that was started in the sandbox and is still there, remove
 * @workdir, empty the sandbox's own /tmp, and look whether all that is gone and
 * files can be written in both places. Answered by cleaned(): unless that is ok,
 * the sandbox must not be lent again.
 */
int sandbox_clean(struct sandbox *s, const char *workdir);

/*
 * Run a command. Answered by ended().
 *
 * A command starts at most once under its id. An earlier run may have started it without having written that down:
 * then a call without resume does not start it again, but goes on with it. The bytes that the earlier run had received
 * are on disk all the same, and they are not given again: so the offsets count in both kinds of call. They are 0 for a
 * command that never ran.
 */
int sandbox_exec(struct sandbox *s, const struct exec_spec *spec, const struct exec_events *events,
                 void *owner, struct exec **out);

/* Send a signal other than KILL to every process of the job, also to those that left its process group. */
void exec_signal(struct exec *e, int signo);

/*
 * Ask whether a command that started still runs. Answered by polled(), or by ended() alone: an end that came before the
 * question is known before the answer, however late it is heard.
 */
int exec_poll(struct exec *e);

/*
 * End every process of the job: TERM, and after @grace_us KILL to what is left; with 0, KILL at once, which also cuts
 * short the grace of an earlier call. ended() comes once all have ended, or with a text that names those that did not.
 */
void exec_kill(struct exec *e, int64_t grace_us);

/* Stop listening: no event comes after this. What runs goes on until it is cleaned away. */
void exec_cancel(struct exec *e);

/* For implementations: give the events, keeping the states above. */
void backend_ready(struct backend *b, const struct result *r);
void backend_notice(struct backend *b, const char *line);
void backend_found(struct backend *b, const struct sandbox_found *found);
void backend_listed(struct backend *b, const struct result *r);
void sandbox_created(struct sandbox *s, const struct result *r);
void sandbox_died(struct sandbox *s, const struct result *why);
void sandbox_cleaned(struct sandbox *s, const struct result *r);
void sandbox_destroyed(struct sandbox *s, const struct result *r);
void exec_started(struct exec *e);
void exec_output(struct exec *e, enum stream stream, const void *data, size_t len);
void exec_ended(struct exec *e, const struct result *r, int code);
void exec_polled(struct exec *e, bool running);
