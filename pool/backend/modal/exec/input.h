/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The standard input of a process, on its way to the router.
 *
 *   open → closed    closed: all has arrived, or nobody reads any more
 *
 * First go the bytes that are known when the process starts, then live input. One TaskExecStdinWrite is under way at a
 * time: what comes meanwhile goes with the next. Each write has its offset, so that a repeated one is harmless.
 *
 * Embedded in its process.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/backend/modal/exec/stdin.h"
#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/rpc/call.h"
#include "pool/util/buf.h"

struct modal_input;

struct modal_input_events {
        /* Live input was written, or is read no more. */
        void (*room)(struct modal_input *in);
        /* The call that writes failed for good. */
        void (*failed)(struct modal_input *in, const struct grpc_status *status);
        /* -errno: the known bytes cannot be read, or there is no memory. */
        void (*unreadable)(struct modal_input *in, int r);
};

struct modal_input {
        const struct modal_input_events *events;
        struct modal_endpoint *router;
        const struct modal_identity *identity;
        const char *exec_id; /* borrowed */
        bool open;
        bool live, ended;          /* more comes behind the known bytes; no more does */
        struct modal_stdin source; /* the known bytes */
        struct buf kept;           /* live input that waits for its turn */
        uint64_t written;          /* bytes that have arrived */
        struct buf chunk;          /* on its way … */
        bool chunk_ends;           /* … with the end of the input behind it */
        struct modal_call *call;
};

/* @source is taken over; NULL: none. Without it and without @live it is closed. */
void modal_input_init(struct modal_input *in, const struct modal_input_events *events, struct modal_endpoint *router,
                      const struct modal_identity *identity, const char *exec_id, const struct modal_stdin *source,
                      bool live);
/* No event comes after this. */
void modal_input_deinit(struct modal_input *in);

/* The process runs. @resumed: an earlier run may have written some of it. 0 or -errno, as unreadable() has it. */
int modal_input_start(struct modal_input *in, bool resumed);

/* Live input: how many bytes are taken, or -EPIPE when it is closed. They go with the next modal_input_go_on(). */
ssize_t modal_input_write(struct modal_input *in, const void *data, size_t len);
void modal_input_end(struct modal_input *in);

/* Write what there is, once it was started. As modal_input_start(). */
int modal_input_go_on(struct modal_input *in);

/* modal_input_write() would take something. */
bool modal_input_has_room(const struct modal_input *in);
