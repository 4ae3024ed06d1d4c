/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The carriers of one sandbox: streams to its helper, one at a time.
 *
 *   state     on                                    to
 *   -------   -----------------------------------   -------
 *   CLOSED    it is in use, and the pause is over   OPENING
 *   OPENING   the helper has said what it has       OPEN
 *   OPENING   the stream breaks, or nobody answers  CLOSED   with a pause
 *   OPEN      the stream breaks                     CLOSED   with a pause if it was opened just before
 *   OPEN      it is worn                            CLOSED   and a new one if it is in use
 *   OPEN      out of use for the idle time          CLOSED
 *   any       carrier_close()                       CLOSED
 *   any       no helper listens, or none of use;    GONE     event gone()
 *             or a newer daemon has it
 *   any       carrier_stop()                        GONE
 *
 * Its owner uses the client (client.h) and calls carrier_wake() afterwards: what is to be sent goes in the next turn of
 * the loop. A stream that breaks is noted, and looked at in the next turn, too. So no event comes from inside a call.
 *
 * Embedded in its sandbox.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/helper/client.h"
#include "pool/util/buf.h"

struct carrier;

struct carrier_events {
        /* Opens a stream to `attach`: 0 or -errno. */
        int (*attach)(struct carrier *c, const struct exec_events *events, void *owner, struct exec **out);
        /* First thing in each turn of the loop that looks at the carrier. May stop it. */
        void (*turn)(struct carrier *c);
        void (*opened)(struct carrier *c);
        /* The answers to client_ping(), client_clean() and client_note(). */
        void (*replied)(struct carrier *c, uint64_t request);
        void (*cleaned)(struct carrier *c, int error, const char *text, size_t len);
        void (*noted)(struct carrier *c, int error, const char *text, size_t len);
        /* There is no helper that could be used any more. The sandbox is of no use either. */
        void (*gone)(struct carrier *c, const struct result *why);
        void (*closed)(struct carrier *c); /* the memory of it may go */
};

enum carrier_state {
        CARRIER_CLOSED,
        CARRIER_OPENING,
        CARRIER_OPEN,
        CARRIER_GONE,
};

struct carrier_stream {
        struct carrier *carrier;
        struct exec *exec;
};

struct carrier {
        const struct carrier_events *events;
        const char *environment; /* id of the sandbox, for texts; borrowed */
        uv_timer_t timer;
        struct client *client; /* NULL until carrier_start() */
        enum carrier_state state;
        int64_t idle_us; /* how long one stays open out of use */
        unsigned users;
        int64_t use_until_us;  /* since when it is out of use, and the idle time */
        int64_t opened_us;     /* when the last one was */
        int64_t open_after_us; /* the pause */
        int64_t refused_warn_us;
        unsigned failures;     /* in a row */
        unsigned useless;      /* of these, those that reached something that gave no answer */
        struct carrier_stream streams[2]; /* the one in use, and one that was, until it has ended */
        struct carrier_stream *stream;    /* the one in use, or NULL */
        struct buf rest;     /* what the stream has not taken yet: never more than one call of client_send() */
        struct buf said;     /* by `attach`, for people */
        bool ended;          /* the stream has, with this: */
        struct saved_result result;
        int code;
        int64_t deaf_us; /* it reads no more, and should have ended by then; or never */
        bool broken;     /* for the reason in said */
        bool stale;
        bool starved; /* this machine had no descriptor for the last one that was to be opened */
};

void carrier_init(struct carrier *c, const struct carrier_events *events, uv_loop_t *loop, const char *environment,
                  int64_t idle_us);

/* There is a helper. Once. 0 or -errno. */
int carrier_start(struct carrier *c, const uint8_t key[HELPER_KEY_SIZE], const char *pool, uint64_t epoch);

/* Streams are cancelled, so that the sandbox has no exec; a later use opens a new one. */
void carrier_close(struct carrier *c);

/* For good. No event but closed() comes after this. */
void carrier_stop(struct carrier *c);

/* Answered by closed(). Jobs must be gone. */
void carrier_deinit(struct carrier *c);

/*
 * Opens one now, where one would be opened for a user. 0, also where it has to wait. -errno: this machine has no descriptor
 * or memory for it (is_shortage()). For who would rather not be a user then.
 */
int carrier_open(struct carrier *c);

/* It is open while there is a user, and for the idle time after one that was not @brief. */
void carrier_use(struct carrier *c);
void carrier_end_idle_time(struct carrier *c);
void carrier_release(struct carrier *c, bool brief);

/* One that is open is replaced: the helper says again which jobs it has. */
void carrier_renew(struct carrier *c);

/* There may be something to send. */
void carrier_wake(struct carrier *c);
