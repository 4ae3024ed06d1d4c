/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the pool asks of a provider of sandboxes.
 *
 * No code above this header knows a particular provider. Only backend.c calls
 * the vtables; it checks that both sides keep to the contract below.
 *
 * A provider is two objects. The client holds credentials and connections; a mount has one. The backend is the template
 * of a pool's sandboxes: image and resources; a pool has one. All backends of a client share its connections. Each
 * provider has a constructor for both. That of the backend takes the client, which outlives it.
 *
 *   backend   start → ready(result), once
 *   sandbox   creating → live → dead        created(result) once, died(why) at most once
 *             creating → failed             created() with a result that is not ok
 *             any of these → ending → gone   destroyed(result), once
 *             (a sandbox of an earlier run that is being adopted is creating, too)
 *   exec      starting → running → freed    started() at most once, ended(result, code) once;
 *                                           ended with an ok result only after started()
 *                                           polled(running) once for each exec_poll(), unless ended() comes
 *   input     open → ended                  of an exec with live input: exec_write() until exec_end_input(),
 *                                           or with kept input: exec_offer_input() until that says so
 *   output    given ↔ held back             by exec_hold_output(); ended() waits until it is given
 *   snapshot  under way → none              done(result, image) once; one at a time of a sandbox
 *
 * Everything is asynchronous: a call returns at once, and its answer comes
 * from the loop, never from inside the call. A call that returns -errno did
 * nothing and is never answered. Time limits of create and destroy are the
 * backend's; those of jobs and clean-ups are the caller's.
 *
 * A sandbox belongs to the backend; the caller's pointer is good until
 * destroyed() returns. Likewise an exec, until ended() returns or exec_cancel()
 * is called. The death of a sandbox ends no exec: the exec's owner cancels it.
 * Events carry the owner pointer that the call gave.
 *
 * Sandboxes can outlive the daemon. So each has two names: a nonce, which the
 * caller chose and recorded before the create was sent, and a resume token,
 * which the backend gives once the sandbox is live. With the nonce a later run
 * can find and end the sandbox; with the resume token it can use it again.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/backend/changes.h"
#include "pool/backend/connection.h"
#include "pool/backend/file-call.h"
#include "pool/backend/snapshot-call.h"
#include "pool/util/blob.h"
#include "pool/util/list.h"
#include "pool/util/result.h"
#include "pool/util/transition.h"

#define SANDBOX_ID_MAX 80           /* bytes, with the final NUL */
#define SANDBOX_RESUME_TOKEN_MAX (48 << 10) /* bytes, with the final NUL */
#define EXEC_INPUT_MAX (64 << 10)   /* bytes of live input that a backend keeps until the process takes them */

struct backend_client;
struct backend;
struct sandbox;
struct exec;

/* What a backend is told of the pool that it serves, as it is made. Borrowed for that call only; "" is: none. */
struct backend_setup {
        const char *shell;      /* has to be in each sandbox */
        const char *base;       /* where workdirs are */
        const char *ready;      /* a sandbox is live once this has succeeded: "tcp:PORT", or a shell command; "": at once */
        const char *dir;        /* a directory of this machine, for itself alone; */
        const char *snapshots;  /* likewise, which its sandboxes do not see; made by the backend that needs it */
        const char *pool_id;    /* a UUID: marks sandboxes that outlive us as this pool's */
        const char *mountpoint; /* for people */
        const char *snapshot;   /* its sandboxes begin as this snapshot is; "": as the provider makes them */
        uint64_t epoch;         /* of this daemon: higher than that of any before it on the same journal */
        bool compare;           /* a clean-up compares the sandbox with how it was when it became live … */
        const char *emptied;    /* … and empties these directories of it, … */
        const char *unwatched;  /* … but does not look at these paths; both joined by ":" */
};

/* What a backend is started for. */
enum backend_use {
        BACKEND_TO_CREATE, /* the start checks everything that new sandboxes need */
        BACKEND_TO_JOIN,   /* as to create; another backend of the client is ready, so what they have in common is checked */
        BACKEND_TO_END,    /* no sandbox will be made: the start checks only what finding and ending others needs */
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
        uint64_t n;         /* calls that ended with this status */
        uint64_t retries;   /* tries beyond the first, summed over these calls */
        int64_t took_us;    /* from the first try to the end, summed likewise */
};

/* Sandboxes that ended though nobody here ended them, since the start, by what the provider says of that. */
struct backend_ends {
        const char *cause; /* its word for it */
        int exit_code;     /* that came with it, 0 for none */
        uint64_t n;
};

/* What the provider warns of beside its answers. */
struct backend_warning {
        const char *text; /* as text_show() gives it */
        uint64_t n;       /* how often it came */
        int64_t last_us;  /* when it came last, by clock_now() */
};

/* Where a program of ours is put into sandboxes: how often since the start. */
struct backend_uploads {
        uint64_t done, failed;
        int64_t took_us;       /* of those that were done, summed */
        struct result failure; /* why, the last time */
};

struct backend_client_events {
        /* The provider gives a warning that is new. */
        void (*warning)(void *owner, const char *text);
};

struct backend_events {
        /* Ok: the provider can be reached and accepts us. */
        void (*ready)(void *owner, const struct result *r);
        /* A line for people, such as one of an image build's log. */
        void (*notice)(void *owner, const char *line);
        /* The answer to backend_list: each sandbox once, then the end. Not ok: some may be missing. */
        void (*found)(void *owner, const struct sandbox_found *found);
        void (*listed)(void *owner, const struct result *r);
};

struct sandbox_events {
        void (*created)(void *owner, const struct result *r);
        void (*died)(void *owner, const struct result *why);
        /* The answer to sandbox_clean. @changes has something only if @r is ok. */
        void (*cleaned)(void *owner, const struct result *r, const struct sandbox_changes *changes);
        /* Not ok: the provider could not be told, and its own time limit ends the sandbox. */
        void (*destroyed)(void *owner, const struct result *r);
};

struct exec_events {
        void (*started)(void *owner);
        void (*output)(void *owner, enum stream stream, const void *data, size_t len);
        /*
         * All output has been given. If @r is ok, @code is the exit code, 128+N for signal N. Else the
         * command never ran, or its end cannot be known, and @r says why. If cwd is not a directory
         * there, @code is EXEC_NO_CWD, and the text of @r is that of exec_no_cwd(). After a kill the
         * text of @r may name processes that are left.
         */
        void (*ended)(void *owner, const struct result *r, int code);
        /* The answer to exec_poll. Not @running: it has ended, and ended() follows when all output has arrived. */
        void (*polled)(void *owner, bool running);
        /* After an exec_write() that took less than all: it takes more now, or says -EPIPE. NULL without live input. */
        void (*room)(void *owner);
        /* Read exactly @len bytes of kept input from @offset. False: they cannot be read, and the exec fails. */
        bool (*read_input)(void *owner, uint64_t offset, void *data, size_t len);
        /* The sandbox has the kept input before @offset for good. @closed: it takes no more, for nobody there reads it. */
        void (*input_taken)(void *owner, uint64_t offset, bool closed);
};

/* What to run. Everything is borrowed for the time of the call only. */
struct exec_spec {
        const char *id;             /* a UUID that is never used again; also marks the job's processes */
        bool resume;                /* it was started under this id by an earlier run: do not start it, go on with it */
        uint64_t offsets[2];        /* output() begins at these bytes of its streams, with and without resume */
        bool output_refused;        /* an earlier run kept no bytes behind the offsets: those need not be there any more */
        const char *shell;          /* run as SHELL -c COMMAND; "": bash where there is one, else sh */
        const struct blob *command; /* any bytes but NUL */
        const struct blob *input;   /* standard input; NULL or empty: none */
        bool live_input;            /* standard input is what exec_write() brings: with no input, and without resume */
        bool kept_input;            /* standard input is what exec_offer_input() offers: instead of these, also with resume */
        const char *user;           /* a name or a number there; NULL or "": the sandbox's own */
        uint16_t rows, columns;     /* of the pseudo-terminal on which it runs: all output is stdout then; 0: on none */
        const char *workdir;        /* absolute, the lease's own directory */
        const char *cwd;            /* absolute, where the command starts */
        bool brief;                 /* it leaves nothing, and nothing is expected to follow: what is opened for it need not stay open */
        bool fresh;                 /* first empty the workdir of whatever is there; it is made in any case */
        const char *const *env;     /* "KEY=VALUE", each key once, over the sandbox's own; the mark; NULL at the end */
};

/* The environment variable that marks each process of a job with its exec id. */
#define EXEC_MARK "MODALPOOL_JOB"

/* The exit code of a command whose cwd is not a directory in the sandbox, or whose user does not exist there. */
#define EXEC_NO_CWD 126
#define EXEC_NO_USER 126

struct backend_client_ops {
        void (*free)(struct backend_client *c);
        void (*each_call)(const struct backend_client *c, void (*each)(void *data, const struct backend_calls *calls),
                          void *data); /* or NULL */
        void (*each_end)(const struct backend_client *c, void (*each)(void *data, const struct backend_ends *ends),
                         void *data); /* or NULL */
        void (*each_warning)(const struct backend_client *c,
                             void (*each)(void *data, const struct backend_warning *warning), void *data); /* or NULL */
};

/* One that starts a helper has neither clean nor exec and what belongs to it: pool/helper does both by attach. */
struct backend_ops {
        const char *name;
        int (*start)(struct backend *b, enum backend_use use);
        void (*free)(struct backend *b);
        int (*create)(struct backend *b, const char *nonce, struct sandbox **out);
        int (*adopt)(struct backend *b, const char *nonce, const char *resume_token, bool unused,
                     struct sandbox **out); /* or NULL */
        int (*list)(struct backend *b);                                                               /* or NULL */
        const struct backend_uploads *(*uploads)(const struct backend *b);                            /* or NULL */
        void (*leave)(struct sandbox *s);                                                             /* or NULL */
        void (*destroy)(struct sandbox *s);
        bool (*is_single_use)(const struct sandbox *s); /* or NULL: none is */
        int (*clean)(struct sandbox *s, const char *workdir);
        int (*snapshot)(struct sandbox *s, const char *id); /* or NULL */
        int (*delete_snapshot)(struct backend *b, const char *id, const char *image, struct snapshot_deletion *d); /* or NULL */
        int (*exec)(struct sandbox *s, const struct exec_spec *spec, struct exec **out);
        int (*attach)(struct sandbox *s, struct exec **out); /* or NULL */
        int (*file_call)(struct sandbox *s, const struct file_call_args *args, struct file_call *c); /* or NULL */
        int (*connect)(struct sandbox *s, const struct connection_spec *spec, struct connection *c);  /* or NULL */
        void (*exec_signal)(struct exec *e, int signo);
        int (*exec_poll)(struct exec *e);
        ssize_t (*exec_write)(struct exec *e, const void *data, size_t len);
        void (*exec_end_input)(struct exec *e);
        void (*exec_offer_input)(struct exec *e, uint64_t size, bool end); /* NULL: its sandboxes are plain; else some are */
        void (*exec_resize)(struct exec *e, uint16_t rows, uint16_t columns);
        void (*exec_hold_output)(struct exec *e); /* or give it: as @held says */
        void (*exec_kill)(struct exec *e, int64_t grace_us);
        void (*exec_cancel)(struct exec *e);
};

/* For implementations: the first member of each client's and each backend's own struct. */
struct backend_client {
        const struct backend_client_ops *ops;
        const struct backend_client_events *events; /* NULL: nobody listens */
        void *owner;
        unsigned n_backends; /* that are not freed */
};

struct backend {
        const struct backend_ops *ops;
        struct backend_client *client;
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
        SANDBOX_ENDING, /* it is being destroyed, or left for a later run */
        SANDBOX_GONE,   /* destroyed() was given; the backend frees it */
};
#define SANDBOX_N_STATES (SANDBOX_GONE + 1)

/* An event that would make an illegal transition is not passed on; a call that would make one does nothing. */
extern const struct transitions sandbox_transitions;

struct sandbox {
        struct backend *backend;
        const struct sandbox_events *events;
        void *owner;
        enum sandbox_state state;
        bool cleaning;
        struct snapshot_call *snapshot; /* that is being taken, or NULL */
        bool serial; /* it is to run one exec at a time; set before it is live */
        bool plain;  /* no helper runs its execs: there is live input, but no kept one, no terminal and no user; set before it is live */
        const char *one_user; /* why all its execs run as one user, and what to do about it; NULL: they need not */
        unsigned n_execs;
        char id[SANDBOX_ID_MAX]; /* for people and for the provider; "" until known */
        bool tmp_is_shared;      /* its /tmp is not its own, and no clean-up empties it */
        int64_t expires_us;      /* when the provider ends it by itself; 0: never; set once it is live */
        const char *resume_token; /* known once it is live, and may be another later; NULL: it does not outlive us */
};

struct exec {
        struct sandbox *sandbox;
        const struct exec_events *events;
        void *owner;
        bool started;
        bool live_input, kept_input, input_ended;
        bool wants_room; /* its owner is owed room() */
        bool held;       /* its output is */
};

/* No backend of it may be left. NULL is fine. */
void backend_client_free(struct backend_client *c);

/* Call @each for every pair of method and status, for the calls of all its backends together. */
void backend_client_each_call(const struct backend_client *c,
                              void (*each)(void *data, const struct backend_calls *calls), void *data);

/* Likewise for every pair of cause and exit code. */
void backend_client_each_end(const struct backend_client *c, void (*each)(void *data, const struct backend_ends *ends),
                             void *data);

/* The newest warnings, the one that came last first. */
void backend_client_each_warning(const struct backend_client *c,
                                 void (*each)(void *data, const struct backend_warning *warning), void *data);

/* Be told of its events from now on, in place of who was told before; NULL: nobody is. */
void backend_client_listen(struct backend_client *c, const struct backend_client_events *events, void *owner);

/* Of the provider, whatever wraps it. */
const char *backend_name(const struct backend *b);

/* Borrowed; NULL: it puts nothing there, nor does one that it wraps. */
const struct backend_uploads *backend_uploads(const struct backend *b);

/* Answered by ready(). */
int backend_start(struct backend *b, enum backend_use use, const struct backend_events *events, void *owner);

/* Sandboxes that are not yet destroyed, including those that a start makes as a trial. */
unsigned backend_count(const struct backend *b);

/* No sandbox may be left. A start that is under way is cancelled without an answer. NULL is allowed. */
void backend_free(struct backend *b);

/*
 * Ask the provider for all sandboxes of this pool, including those of earlier runs. Answered by found() and listed().
 * -ENOTSUP if the backend's sandboxes end with the daemon.
 */
int backend_list(struct backend *b);

/* @nonce: a new UUID. Answered by created(). */
int sandbox_create(struct backend *b, const char *nonce, const struct sandbox_events *events, void *owner,
                   struct sandbox **out);

/*
 * Take back a sandbox of an earlier run. With its resume token, it is asked whether it is alive. If its create was
 * never answered, @resume_token is "", and the sandbox can only be destroyed. @unused: no job was started there since it was
 * made or cleaned. Answered by created(), unless it is destroyed before. -ENOTSUP if the backend's sandboxes end with the
 * daemon.
 */
int sandbox_adopt(struct backend *b, const char *nonce, const char *resume_token, bool unused,
                  const struct sandbox_events *events, void *owner, struct sandbox **out);

/*
 * Leave it alive for a later run to adopt; if the backend's sandboxes end with the daemon, destroy it. Its execs must
 * have ended or been cancelled. Answered by destroyed().
 */
void sandbox_leave(struct sandbox *s);

/* In any state but ending; its execs must have ended or been cancelled. Answered by destroyed(). */
void sandbox_destroy(struct sandbox *s);

/*
 * Kill every process that was started in the sandbox, remove @workdir, and empty the sandbox's own /tmp. Then check that
 * all of this is gone, and that files can be written in both places. Answered by cleaned(). If that is not ok, the sandbox
 * must not be lent again.
 *
 * Where the backend was set up to compare, the directories of its setup are emptied in place of /tmp, and whatever else
 * was added since the sandbox became live is removed. What was changed or is gone comes as changes; then, too, the
 * sandbox must not be lent again.
 */
int sandbox_clean(struct sandbox *s, const char *workdir);

/*
 * Take a snapshot of a sandbox that is live and is not being cleaned. It has what calls about files did that were accepted
 * before. Jobs go on meanwhile. @id: a UUID, recorded before; with the same one again, in this run or a later one, the
 * provider has one snapshot. Answered by done() of @c. -EOPNOTSUPP: this sandbox cannot be copied. -EBUSY: one is under way.
 */
int sandbox_snapshot(struct sandbox *s, const char *id, struct snapshot_call *c);

/*
 * Delete a snapshot, by any backend of its client. Sandboxes that were made from it go on. @image: "" if its taking was
 * never answered. Answered by done() of @d. -ENOENT: there is none, or it cannot be found by its id alone, and the
 * provider's own time limit ends it.
 */
int backend_delete_snapshot(struct backend *b, const char *id, const char *image, struct snapshot_deletion *d);

/*
 * No clean-up could tell what a lease leaves there, so it serves one lease only. A sandbox may become so when an exec
 * starts, or with an event; it then stays so. Never where the backend was not set up to compare.
 */
bool sandbox_is_single_use(const struct sandbox *s);

/*
 * Run a command. Answered by ended().
 *
 * A command starts at most once under its id. An earlier run may have started it and been killed before it recorded
 * that. Then a call without resume does not start it again, but follows it. Bytes that the earlier run received are on
 * disk and are not given again, so the offsets count in both kinds of call. They are 0 for a command that never ran.
 *
 * -EOPNOTSUPP: kept input, a terminal or a user in a plain sandbox, a user in one that has one user, or live input in another.
 */
int sandbox_exec(struct sandbox *s, const struct exec_spec *spec, const struct exec_events *events,
                 void *owner, struct exec **out);

/* The backend starts a helper (pool/helper/protocol.h) in each sandbox before it is live; its key is the nonce's 16 bytes. */
bool sandbox_has_helper(const struct sandbox *s);

/*
 * Open a stream to that helper: an exec with live input. exec_write() sends to the helper; what it sends comes as output()
 * of STREAM_STDOUT. started() comes when the stream is open, ended() when it has broken, exec_cancel() closes it. There is
 * nothing to signal, to poll or to kill. -ENOTSUP: the backend starts none.
 */
int sandbox_attach(struct sandbox *s, const struct exec_events *events, void *owner, struct exec **out);

/*
 * Do something with the files of the sandbox, by its helper. Calls are done one after another, in their order. @args: see
 * pool/helper/file-call.h; borrowed for the time of the call only. Answered by done() of @c. -EOPNOTSUPP: it has no
 * helper. -ENODEV: it does not live. -EINVAL: @args are too long.
 */
int sandbox_file_call(struct sandbox *s, const struct file_call_args *args, struct file_call *c);

/* Nobody waits for it any more: it may be done or not. What it has opened is closed. Nothing if it is not under way. */
void sandbox_file_cancel(struct file_call *c);

/*
 * Open a connection to something inside; c->changed is set. When its sandbox is cleaned or dies, it is broken.
 * -EOPNOTSUPP: nothing carries it there. -EAGAIN: there are too many. -ENAMETOOLONG.
 */
int sandbox_connect(struct sandbox *s, const struct connection_spec *spec, struct connection *c);

/* Send a signal other than KILL to every process of the job, also to those that left its process group. */
void exec_signal(struct exec *e, int signo);

/*
 * Ask whether a command that started still runs. Answered by polled(), or by ended() alone. If the command ended before
 * the question, the answer says so, however late it arrives.
 */
int exec_poll(struct exec *e);

/*
 * Write to the standard input of an exec with live input, also before it has started; not after exec_end_input(). Returns
 * how many bytes were taken, since the backend keeps EXEC_INPUT_MAX at most. room() comes after a call that took less than
 * all, unless ended() does. -EPIPE: nothing reads them any more, because the process has closed its input or has ended, or
 * because the sandbox is dead. What was taken arrives once and in order, as far as the process reads it. When the process
 * ends, is killed or is cancelled, the rest is lost.
 *
 * The id must be a new one. A later run that resumes the exec gets its output and its end, but cannot write to it: the
 * process then waits for input until it is killed.
 */
ssize_t exec_write(struct exec *e, const void *data, size_t len);

/* Standard input ends behind what was written. Only with live input; a second call does nothing. */
void exec_end_input(struct exec *e);

/*
 * There are so many bytes of kept input now, never less than before; with @end, there will be no more. The owner keeps each
 * byte until input_taken(): the backend reads it when it sends it, and perhaps again. A later run of the daemon that resumes
 * the exec offers all of its input anew, and hears how much of that the sandbox has.
 */
void exec_offer_input(struct exec *e, uint64_t size, bool end);

/* The terminal of one that runs on one has another size. */
void exec_resize(struct exec *e, uint16_t rows, uint16_t columns);

/*
 * Hold output back, or give it again. While it is held the backend reads none: the process waits as soon as its pipe, and
 * what the provider keeps, is full. No output() comes after the call, but inside output() the rest of the piece that is
 * being given may still come. ended() does not come while output is held. Kill, signal and cancel work as ever.
 */
void exec_hold_output(struct exec *e, bool hold);

/*
 * End every process of the job: send TERM, and after @grace_us, at most GRACE_MAX_US, KILL to those that are left. With 0,
 * send KILL at once, even during the grace of an earlier call. ended() comes once all have ended, or with a text that names
 * those that did not.
 */
void exec_kill(struct exec *e, int64_t grace_us);

/* No event comes after this. Processes that still run are ended by the next clean-up. */
void exec_cancel(struct exec *e);

/* For implementations: a new backend is complete, and is one of the client's until it is freed. */
void backend_attach(struct backend *b, struct backend_client *c);

/* For implementations: these deliver the events and keep the states above. */
void backend_client_warning(struct backend_client *c, const char *text);
void backend_ready(struct backend *b, const struct result *r);
void backend_notice(struct backend *b, const char *line);
void backend_found(struct backend *b, const struct sandbox_found *found);
void backend_listed(struct backend *b, const struct result *r);
void sandbox_created(struct sandbox *s, const struct result *r);
void sandbox_died(struct sandbox *s, const struct result *why);
void sandbox_cleaned(struct sandbox *s, const struct result *r, const struct sandbox_changes *changes); /* NULL: none */
void sandbox_destroyed(struct sandbox *s, const struct result *r);
void sandbox_snapshotted(struct sandbox *s, const struct result *r, const char *image); /* nothing if none is under way */
void exec_started(struct exec *e);
void exec_output(struct exec *e, enum stream stream, const void *data, size_t len);
void exec_ended(struct exec *e, const struct result *r, int code);
/* The result that goes with EXEC_NO_CWD. */
void exec_no_cwd(struct result *r, const char *cwd);
void exec_polled(struct exec *e, bool running);
void exec_input_taken(struct exec *e, uint64_t offset, bool closed);
/* There is room, or nothing will be read any more: passed on when the owner waits for that. Not from inside exec_write(). */
void exec_room(struct exec *e);
