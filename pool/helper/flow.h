/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One direction of a channel: what its sender keeps, and what its receiver keeps. Each end of the protocol has one of both
 * for each channel.
 *
 * The sender keeps bytes until the receiver says that it has them, at most a window. So it can send them again over another
 * carrier. The receiver keeps bytes until they are read, at most a window, and says how far the sender may go: the first
 * byte that it keeps, and a window. What it says grows, and never goes back.
 *
 * The receiver checks all that comes: beyond its limit, behind a gap, or behind the end is a breach.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/helper/protocol.h"
#include "pool/util/ring.h"

struct flow_out {
        struct ring ring;
        uint64_t sent;  /* the next byte to send over this carrier */
        uint64_t most;  /* behind the last byte that was sent over any */
        uint64_t limit; /* the first byte that may not be sent yet */
        bool end;       /* there is none behind the ring's */
        bool end_sent;  /* over this carrier */
};

int flow_out_init(struct flow_out *f, size_t window); /* 0 or -ENOMEM */
void flow_out_deinit(struct flow_out *f);

/* There is a new carrier: begins again with the first byte that is kept. */
void flow_out_rewind(struct flow_out *f);

/* WINDOW has come. False: it cannot be true. */
bool flow_out_window(struct flow_out *f, uint64_t offset, uint64_t limit);

/* Whether there is a DATA to send, and the next one: all but its type and channel. It counts as sent. */
bool flow_out_waits(const struct flow_out *f);
bool flow_out_next(struct flow_out *f, struct frame *frame);

/* All of it was sent over this carrier. */
bool flow_out_is_sent(const struct flow_out *f);

struct flow_in {
        struct ring ring;
        uint64_t told; /* the limit that the sender knows */
        bool end;      /* there is none behind the ring's */
        bool shut;     /* it is dropped as it comes */
        bool tell;     /* WINDOW is to be sent in any case */
};

int flow_in_init(struct flow_in *f, size_t window);
void flow_in_deinit(struct flow_in *f);

/* DATA has come: what of it is new is kept. False: a breach. */
bool flow_in_put(struct flow_in *f, const struct frame *frame);

/* The next bytes to read, in one piece, and that they were. */
const uint8_t *flow_in_peek(const struct flow_in *f, size_t *len);
void flow_in_take(struct flow_in *f, size_t n);

/* All was read, and no more comes. */
static inline bool flow_in_at_end(const struct flow_in *f) {
        return f->end && (f->shut || ring_len(&f->ring) == 0);
}

/* Nobody reads it any more. */
void flow_in_shut(struct flow_in *f);

/* Whether the sender should be told of more room, and what: all but its type and channel. It counts as told. */
bool flow_in_waits(const struct flow_in *f);
void flow_in_window(struct flow_in *f, struct frame *frame);
