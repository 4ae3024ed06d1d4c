/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/store.h"

#include <assert.h>
#include <string.h>

/* output */

/* A record is this head and its bytes. Records of a chunk follow each other. */
struct record {
        uint16_t len;
        uint16_t stream;
};

struct output_chunk {
        struct output_chunk *next;
        uint32_t start, used; /* of the records that are kept */
        uint8_t data[OUTPUT_CHUNK];
};

static struct output_chunk output_chunks[HELPER_JOBS_MAX + OUTPUT_CHUNKS_SHARED];
static struct output_chunk *output_free; /* used before, and free again … */
static unsigned output_fresh;            /* … and the first that was never used */
static unsigned output_shared = OUTPUT_CHUNKS_SHARED;

static struct record record_at(const struct output_chunk *c, uint32_t at) {
        struct record r;

        memcpy(&r, c->data + at, sizeof(r));
        return r;
}

static void record_set(struct output_chunk *c, uint32_t at, struct record r) {
        memcpy(c->data + at, &r, sizeof(r));
}

static struct output_chunk *chunk_take(struct output *o) {
        struct output_chunk *c;

        if (o->n_chunks > 0) {
                if (output_shared == 0 || o->n_chunks == OUTPUT_CHUNKS_EACH)
                        return NULL;
                output_shared--;
        }
        c = output_free;
        if (c)
                output_free = c->next;
        else
                c = &output_chunks[output_fresh++];
        o->n_chunks++;
        c->next = NULL;
        c->start = c->used = 0;
        return c;
}

static void chunk_give(struct output *o, struct output_chunk *c) {
        if (--o->n_chunks > 0)
                output_shared++;
        c->next = output_free;
        output_free = c;
}

void output_init(struct output *o) {
        *o = (struct output){};
}

void output_deinit(struct output *o) {
        while (o->head) {
                struct output_chunk *next = o->head->next;

                chunk_give(o, o->head);
                o->head = next;
        }
}

/* Whether the next bytes of the stream follow those of the last record. */
static bool grows_last(const struct output *o, unsigned stream) {
        return o->tail->used > o->tail->start && record_at(o->tail, o->last_at).stream == stream;
}

void *output_room(struct output *o, unsigned stream, size_t *len) {
        struct output_chunk *c = o->tail;
        size_t head;

        if (!c || sizeof(c->data) - c->used < sizeof(struct record) + PACKET_SIZE) {
                c = chunk_take(o);
                if (!c)
                        return NULL;
                if (o->tail) {
                        o->tail->next = c;
                } else {
                        o->head = o->cursor = c;
                        o->cursor_at = o->cursor_into = 0;
                }
                o->tail = c;
        }
        head = grows_last(o, stream) ? 0 : sizeof(struct record);
        *len = sizeof(c->data) - c->used - head;
        return c->data + c->used + head;
}

void output_add(struct output *o, unsigned stream, size_t len) {
        struct output_chunk *c = o->tail;
        struct record r = { .stream = (uint16_t)stream };

        if (grows_last(o, stream)) {
                r = record_at(c, o->last_at);
        } else {
                o->last_at = c->used;
                c->used += sizeof(r);
        }
        r.len += len;
        record_set(c, o->last_at, r);
        c->used += len;
        o->end[stream] += len;
}

/* The record behind the one at *@at of *@c. False: there is none yet. */
static bool record_next(struct output_chunk **c, uint32_t *at) {
        uint32_t next = *at + sizeof(struct record) + record_at(*c, *at).len;

        if (next < (*c)->used) {
                *at = next;
                return true;
        }
        if (!(*c)->next || (*c)->next->used == 0)
                return false;
        *c = (*c)->next;
        *at = (*c)->start;
        return true;
}

/* The first record is acknowledged. */
static void drop_first(struct output *o) {
        struct output_chunk *c = o->head;
        struct record r = record_at(c, c->start);
        bool at_cursor = o->cursor == c && o->cursor_at == c->start;

        o->base[r.stream] += r.len;
        c->start += sizeof(r) + r.len;
        if (at_cursor) {
                o->sent[r.stream] = o->base[r.stream];
                o->cursor_at = c->start;
                o->cursor_into = 0;
        }
        if (c->start < c->used)
                return;
        o->head = c->next;
        if (!o->head)
                o->tail = NULL;
        if (o->cursor == c) {
                o->cursor = o->head;
                o->cursor_at = o->head ? o->head->start : 0;
                o->cursor_into = 0;
        }
        chunk_give(o, c);
}

bool output_ack(struct output *o, const uint64_t streams[2]) {
        for (int i = 0; i < 2; i++) {
                if (streams[i] > o->end[i])
                        return false;
                if (streams[i] > o->acked[i])
                        o->acked[i] = streams[i];
        }
        while (o->head && o->head->used > 0) {
                struct record r = record_at(o->head, o->head->start);

                if (o->base[r.stream] + r.len > o->acked[r.stream])
                        break;
                drop_first(o);
        }
        return true;
}

void output_rewind(struct output *o) {
        o->cursor = o->head;
        o->cursor_at = o->head ? o->head->start : 0;
        o->cursor_into = 0;
        memcpy(o->sent, o->base, sizeof(o->sent));
}

uint64_t output_under_way(const struct output *o) {
        uint64_t sum = 0;

        for (int i = 0; i < 2; i++)
                if (o->sent[i] > o->acked[i])
                        sum += o->sent[i] - o->acked[i];
        return sum;
}

bool output_is_sent(const struct output *o) {
        return o->sent[0] == o->end[0] && o->sent[1] == o->end[1];
}

/* To the next byte that is not sent. */
static bool cursor_settle(struct output *o) {
        while (o->cursor && o->cursor->used > o->cursor_at) {
                struct record r = record_at(o->cursor, o->cursor_at);
                uint64_t acked = o->acked[r.stream];

                /* What a carrier before has brought in full is not sent again. */
                if (o->sent[r.stream] < acked) {
                        uint64_t skip = acked - o->sent[r.stream], left = r.len - o->cursor_into;

                        skip = skip < left ? skip : left;
                        o->cursor_into += skip;
                        o->sent[r.stream] += skip;
                }
                if (o->cursor_into < r.len)
                        return true;
                if (!record_next(&o->cursor, &o->cursor_at))
                        return false;
                o->cursor_into = 0;
        }
        return false;
}

bool output_next(struct output *o, size_t most, unsigned *stream, uint64_t *offset, const uint8_t **data, size_t *len) {
        struct record r;

        if (!cursor_settle(o))
                return false;
        r = record_at(o->cursor, o->cursor_at);
        *stream = r.stream;
        *offset = o->sent[r.stream];
        *data = o->cursor->data + o->cursor_at + sizeof(r) + o->cursor_into;
        *len = r.len - o->cursor_into < most ? r.len - o->cursor_into : most;
        o->cursor_into += *len;
        o->sent[r.stream] += *len;
        return true;
}

/* input */

struct input_chunk {
        struct input_chunk *next;
        uint8_t data[INPUT_CHUNK];
};

static struct input_chunk input_chunks[HELPER_JOBS_MAX + INPUT_CHUNKS_SHARED];
static struct input_chunk *input_free;
static unsigned input_fresh;
static unsigned input_shared = INPUT_CHUNKS_SHARED;

static struct input_chunk **chunk_of(struct input *in, uint64_t offset) {
        return &in->chunks[offset / INPUT_CHUNK % INPUT_CHUNKS_EACH];
}

static void input_give(struct input_chunk **c) {
        if (!*c)
                return;
        (*c)->next = input_free;
        input_free = *c;
        *c = NULL;
}

void input_init(struct input *in) {
        *in = (struct input){ .window = 1, .limit = HELPER_INPUT_FIRST };
}

static void drop_input(struct input *in) {
        in->taken = in->have;
        if (in->limit < in->have + HELPER_INPUT_FIRST)
                in->limit = in->have + HELPER_INPUT_FIRST;
}

void input_shut(struct input *in) {
        for (size_t i = 0; i < INPUT_CHUNKS_EACH; i++)
                input_give(&in->chunks[i]);
        input_shared += in->window - 1;
        in->window = 1;
        in->closed = true;
        drop_input(in);
}

static void input_copy(struct input *in, const uint8_t *data, size_t len) {
        while (len > 0) {
                struct input_chunk **c = chunk_of(in, in->have);
                size_t at = in->have % INPUT_CHUNK, part = INPUT_CHUNK - at < len ? INPUT_CHUNK - at : len;

                if (!*c) {
                        *c = input_free;
                        if (*c)
                                input_free = (*c)->next;
                        else
                                *c = &input_chunks[input_fresh++];
                }
                memcpy((*c)->data + at, data, part);
                in->have += part;
                data += part;
                len -= part;
        }
}

bool input_put(struct input *in, uint64_t offset, const uint8_t *data, size_t len, bool end) {
        uint64_t skip;

        if (offset > in->have || offset + len > in->limit)
                return false;
        skip = in->have - offset;
        if (skip > len)
                return true; /* all of it came before, and the end is not here */
        if (in->end)
                return skip == len;
        if (in->closed) {
                in->have += len - skip;
                drop_input(in);
        } else {
                input_copy(in, data + skip, len - skip);
        }
        in->end = end;
        return true;
}

size_t input_peek(const struct input *in, const uint8_t **data) {
        size_t at = in->taken % INPUT_CHUNK, len = INPUT_CHUNK - at;

        if (in->taken == in->have)
                return 0;
        *data = in->chunks[in->taken / INPUT_CHUNK % INPUT_CHUNKS_EACH]->data + at;
        return in->have - in->taken < len ? in->have - in->taken : len;
}

/* As a job reads on, more may be on its way to it. */
static void window_grow(struct input *in) {
        unsigned more = in->window;

        if (more > INPUT_CHUNKS_EACH - in->window)
                more = INPUT_CHUNKS_EACH - in->window;
        if (more > input_shared)
                more = input_shared;
        in->window += more;
        input_shared -= more;
}

bool input_take(struct input *in, size_t len) {
        uint64_t before = in->taken / INPUT_CHUNK;

        in->taken += len;
        if (in->taken / INPUT_CHUNK == before || in->end)
                return false;
        for (uint64_t i = before; i < in->taken / INPUT_CHUNK; i++)
                input_give(&in->chunks[i % INPUT_CHUNKS_EACH]);
        window_grow(in);
        in->limit = (in->taken / INPUT_CHUNK + in->window) * INPUT_CHUNK;
        return true;
}
