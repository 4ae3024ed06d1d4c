/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon's end of the helper of one sandbox: jobs over carriers that may break. The protocol and the states of a
 * job stand in protocol.h.
 *
 * A state machine without a loop, a clock or descriptors. Its owner opens streams to `attach`, and tells it of a new
 * carrier, of bytes that came, and of the end of one; it asks for bytes to send when client_send_at() says so. Time is
 * an argument. Events come from inside client_receive() and client_tick(), and may call anything here but
 * client_free().
 *
 *   carrier   none → OPENING → OPEN → none     client_carrier_new() · WELCOME and all its JOB · lost or replaced
 *             any → STALE                      a newer daemon has the sandbox: nothing is sent any more
 *
 * It keeps no output and no input. What it is given to send it reads from its owner when it sends it, and again for
 * another carrier, from the first byte that the helper does not have.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/backend/file-call.h"
#include "pool/helper/protocol.h"

#define CLIENT_ORDERS_MAX 16                  /* of a job, which the helper has not confirmed */
#define CLIENT_RESIZES_MAX 8                  /* … before another resize waits, and leaves room for others */
#define CLIENT_HELLO_US (30 * USEC_PER_SEC)   /* until WELCOME, or the carrier is broken */
#define CLIENT_SILENCE_US (15 * USEC_PER_SEC) /* of a carrier whose helper has to answer something at once */
#define CLIENT_LAZY_US (1 * USEC_PER_SEC)     /* what is not urgent waits for company so long */
#define CLIENT_ACK_BYTES (128 << 10)          /* of output make their acknowledgement urgent */
#define CLIENT_RUN_MAX (256 << 10)            /* bytes of output that are given at once */
#define CLIENT_CALLS_QUEUE_MAX 16384           /* calls about files that have not been sent */
#define CLIENT_CLOSE_US (60 * USEC_PER_SEC)   /* for what was written to a channel before it was closed */
#define CLIENT_CARRIER_BYTES (256 << 20)      /* after which a carrier is worn … */
#define CLIENT_CARRIER_US (3600 * USEC_PER_SEC) /* … or after this time */

struct client;
struct client_job;
struct client_channel;

struct client_events {
        /* A carrier is open, and every job goes on. */
        void (*open)(void *owner);
        /* The carrier is of no use; its owner closes it, and may open another. @why: for people, of any bytes. */
        void (*broken)(void *owner, const char *why, size_t len);
        void (*stale)(void *owner);
        /* So many carriers have come with a wrong key. */
        void (*refused)(void *owner, uint32_t count);
        /* The answer to client_ping(). */
        void (*replied)(void *owner, uint64_t request);
        /*
         * The answers to client_clean() and client_note(). @error: 0, or an errno. @text: for people, of any bytes. Of
         * ESTALE it is paths, each with a final NUL: see CLEAN in protocol.h.
         */
        void (*cleaned)(void *owner, int error, const char *text, size_t len);
        void (*noted)(void *owner, int error, const char *text, size_t len);
};

struct client_end {
        enum helper_end how;
        uint32_t value;
        uint64_t ran_us;
        const char *text; /* from inside the sandbox: for people, of any bytes */
        size_t text_len;
};

struct client_job_events {
        /* It runs, or has run. Not with resume. One that was killed, or did not start, may end without. */
        void (*started)(void *owner);
        /* Bytes of a stream, in order, each once, at most CLIENT_RUN_MAX at a time. They count as acknowledged with client_job_acknowledge(). */
        void (*output)(void *owner, unsigned stream, const void *data, size_t len);
        /*
         * The bytes of a stream before @offset will never come: an earlier run of the daemon has acknowledged them, and
         * has not kept them. Does not free the job.
         */
        void (*missed)(void *owner, unsigned stream, uint64_t offset);
        /* Reads exactly @len bytes of the command from @offset. False: they cannot be read now. Until started() or ended(). */
        bool (*command)(void *owner, uint64_t offset, void *data, size_t len);
        /* The same of the input: of client_job_input()'s bytes, from the last taken() on. */
        bool (*input)(void *owner, uint64_t offset, void *data, size_t len);
        /* The helper has the input before @offset: it is not read again. Also when client_job_reads_input() has changed. */
        void (*taken)(void *owner, uint64_t offset);
        /* Once. All output has been given. */
        void (*ended)(void *owner, const struct client_end *end);
};

struct client_job_spec {
        uint8_t id[HELPER_JOB_SIZE];
        uint8_t flags; /* START_FRESH and so on */
        uint16_t rows, columns;
        const char *shell, *workdir, *cwd, *user; /* see protocol.h; these and @env are copied */
        const char *const *env;                   /* NULL at the end */
        uint64_t command_len;
        int64_t timeout_us, grace_us;
        /* An earlier run of the daemon has started it: it is not started, but gone on with. Without START_INPUT it gets no more input. */
        bool resume;
        uint64_t streams[2]; /* with resume: output begins at these bytes */
};

/* @epoch: higher than that of any run before. */
int client_new(struct client **out, const uint8_t key[HELPER_KEY_SIZE], const char *pool, uint64_t epoch,
               const struct client_events *events, void *owner);

/* Its jobs must be gone. NULL is fine. */
void client_free(struct client *c);

/* There is a new carrier, in place of what there was. 0 or -ENOMEM. -ESTALE: there is a newer daemon. */
int client_carrier_new(struct client *c, int64_t now);

/* It has ended, or is closed. */
void client_carrier_lost(struct client *c);

/* Something was sent over it. */
bool client_carrier_is_used(const struct client *c);

/* It is better replaced, when it suits. */
bool client_carrier_is_worn(const struct client *c, int64_t now);

void client_receive(struct client *c, const void *data, size_t len, int64_t now);

/* When to ask for bytes to send: @now or before when there is something urgent; never while there is no carrier. */
int64_t client_send_at(struct client *c, int64_t now);

/* Up to @size bytes to send, at least FRAME_MAX. They count as sent. 0: none. */
size_t client_send(struct client *c, void *out, size_t size, int64_t now);

/* Does what is due. Returns when to call it again. */
int64_t client_tick(struct client *c, int64_t now);

/* Answered by replied(), unless the carrier breaks first. @request: any number. -EAGAIN: there are too many. */
int client_ping(struct client *c, uint64_t request);

struct client_cleanup {
        bool sandbox, compare;        /* see CLEAN_SANDBOX and CLEAN_COMPARE in protocol.h */
        const char *workdir;          /* to be removed; "": none */
        const char *const *emptied;   /* directories, NULL at the end; the first is that for temporary files */
        const char *const *unwatched; /* paths, NULL at the end; NULL: none */
};

/*
 * Ends all jobs, and removes what they have left. Answered once by cleaned(), over whatever carrier there is by then;
 * not if there is a newer daemon. Jobs may be started again after that. There is no time limit.
 * -EBUSY: one is under way. -EFBIG: too many bytes of names.
 */
int client_clean(struct client *c, const struct client_cleanup *what);

/*
 * Notes how the sandbox is, for clean-ups to compare with: before the first job. Answered by noted() in the same way;
 * with ECANCELED when a clean-up was asked for before it was done. No workdir; sandbox and compare do not matter.
 */
int client_note(struct client *c, const struct client_cleanup *what);

/*
 * A call about files: see pool/backend/file-call.h. It is done once, over whatever carriers there are. -EAGAIN: there are
 * too many. -EOPNOTSUPP, also by done(): the helper is an older one, which knows no files.
 */
int client_call(struct client *c, const struct file_call_args *args, struct file_call *call);

/* Some have no answer yet. */
bool client_has_calls(const struct client *c);

/* All calls end with this errno: a clean-up comes, or the sandbox is gone. */
void client_calls_end(struct client *c, int error);

/*
 * A job. The helper starts it once, however often it is asked for under this id. -EAGAIN: the helper has as many as it
 * takes. -EFBIG: too long.
 */
int client_job_start(struct client *c, const struct client_job_spec *spec, const struct client_job_events *events,
                     void *owner, struct client_job **out);

/* The owner wants it no more: where it has not ended, it is killed. No event follows. */
void client_job_free(struct client_job *j);

/* Its shell has not ended, by what the helper has said last. */
bool client_job_runs(const struct client_job *j);

/* There are so many bytes of input now; with @end, there will be no more. */
void client_job_input(struct client_job *j, uint64_t size, bool end);

/* Whether anybody inside may still read its input: else no more is sent. */
bool client_job_reads_input(const struct client_job *j);

/* These bytes of its streams are had for good. Output stops when much is not acknowledged. */
void client_job_acknowledge(struct client_job *j, const uint64_t streams[2]);

/* Orders: done once each, in their order. -EAGAIN: there are too many that the helper has not confirmed. */
int client_job_signal(struct client_job *j, int signo);
int client_job_kill(struct client_job *j, int64_t grace_us);
/* One that was not sent takes the new size. */
int client_job_resize(struct client_job *j, uint16_t rows, uint16_t columns);

/*
 * A channel (protocol.h). changed() says that it is open or broken, that there is more to read, or more room: it may close
 * the channel. -EAGAIN: there are too many. -EOPNOTSUPP: the helper has none. -ENAMETOOLONG.
 */
struct client_channel_spec {
        enum channel_kind kind;
        uint16_t port;
        bool recursive;
        const char *workdir, *path; /* of a watch; copied */
};
int client_channel_open(struct client *c, const struct client_channel_spec *spec, void (*changed)(void *owner), void *owner,
                        struct client_channel **out);

/* What was written is sent before it is closed. No event follows. */
void client_channel_close(struct client_channel *ch, int64_t now);

/*
 * All are closed at once: what was written and not sent is dropped, and the helper is told. Each owner closes its own in
 * @ended, which is called with @error for each.
 */
void client_channels_close(struct client *c, int error, void (*ended)(void *owner, int error));

/* The helper is told nothing. No channel has an owner any more. */
void client_channels_drop(struct client *c);

struct client *client_channel_client(const struct client_channel *ch);
void *client_owner(const struct client *c);

/* 0: it is open. -EAGAIN: not yet. Another -errno: it is broken. */
int client_channel_status(const struct client_channel *ch);

/* Bytes; 0 at the end; -EAGAIN; or, behind the last byte, why it is broken. */
ssize_t client_channel_read(struct client_channel *ch, void *data, size_t len);
bool client_channel_is_readable(const struct client_channel *ch);

/* How many were taken, -EAGAIN, -EPIPE behind the end, or why it is broken. */
ssize_t client_channel_write(struct client_channel *ch, const void *data, size_t len);
size_t client_channel_room(const struct client_channel *ch); /* SIZE_MAX: a write fails at once */
void client_channel_end(struct client_channel *ch);
