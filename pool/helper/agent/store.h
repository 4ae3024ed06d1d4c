/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the helper keeps of jobs' output and input, in memory that is fixed.
 *
 * Memory is divided into chunks. Each job always has one for output and one for input; it takes more from a part that
 * all jobs share, as long as there are any. So a job that nobody reads stops, and stops no other.
 *
 * Output keeps both streams of a job in the order in which they were read, from the first byte that is not
 * acknowledged. A cursor says what is sent next; a new carrier begins at the first byte that is kept.
 *
 * Input keeps what the job has not read yet. The daemon may send up to a limit, for which memory is set aside.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/helper/agent/limits.h"

struct output_chunk;

struct output {
        struct output_chunk *head, *tail, *cursor;
        unsigned n_chunks;
        uint32_t cursor_at, cursor_into; /* of a record in the chunk, and of a byte in the record */
        uint32_t last_at;                /* of the last record in the tail */
        uint64_t base[2];                /* by stream: the first byte that is kept, */
        uint64_t sent[2];                /* the next one to send, */
        uint64_t end[2];                 /* the next one to be read, */
        uint64_t acked[2];               /* and the first one that is not acknowledged */
};

void output_init(struct output *o);
void output_deinit(struct output *o);

/* Where the next packet of a stream is read into: PACKET_SIZE bytes at least. NULL: there is no memory for it now. */
void *output_room(struct output *o, unsigned stream, size_t *len);
void output_add(struct output *o, unsigned stream, size_t len);

/* Drops what is acknowledged. False when that was never read. */
bool output_ack(struct output *o, const uint64_t streams[2]);

/* Begins again with the first byte that is kept. */
void output_rewind(struct output *o);

/* Bytes that are sent and not acknowledged. */
uint64_t output_under_way(const struct output *o);

/* The next piece to send, of at most @most bytes; false when there is none. It counts as sent then. */
bool output_next(struct output *o, size_t most, unsigned *stream, uint64_t *offset, const uint8_t **data, size_t *len);
bool output_is_sent(const struct output *o);

struct input_chunk;

struct input {
        struct input_chunk *chunks[INPUT_CHUNKS_EACH]; /* byte N is in that of N / INPUT_CHUNK, modulo their number */
        unsigned window;                               /* chunks that are set aside */
        uint64_t taken;                                /* the next byte that the job gets, */
        uint64_t have;                                 /* the next one that the daemon sends, */
        uint64_t limit;                                /* and the first one that it may not send yet */
        bool end;                                      /* there is none behind @have */
        bool closed;                                   /* nobody reads it: it is dropped as it comes */
};

void input_init(struct input *in);

/* Nobody reads it any more: gives its memory back. */
void input_shut(struct input *in);

/* What of the bytes from @offset on is new is kept. False for bytes beyond the limit, or behind a gap or the end. */
bool input_put(struct input *in, uint64_t offset, const uint8_t *data, size_t len, bool end);

/* The next bytes for the job, in one piece; 0 when there are none. */
size_t input_peek(const struct input *in, const uint8_t **data);

/* The job has got them. True when the limit has moved. */
bool input_take(struct input *in, size_t len);
