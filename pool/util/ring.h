/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A ring of bytes of fixed size. Bytes are numbered from the first that was ever put in, so that who shares the ring with
 * another machine can speak of them. Embedded; one without data has no room.
 */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct ring {
        uint8_t *data;
        size_t size;
        uint64_t begin, end; /* the first byte that is kept; the next one to be put in */
};

/* 0 or -ENOMEM. */
static inline int ring_init(struct ring *r, size_t size) {
        *r = (struct ring){ .data = malloc(size), .size = size };
        return r->data ? 0 : -ENOMEM;
}

static inline void ring_deinit(struct ring *r) {
        free(r->data);
        r->data = NULL;
}

static inline size_t ring_len(const struct ring *r) {
        return r->end - r->begin;
}

static inline size_t ring_room(const struct ring *r) {
        return r->data ? r->size - ring_len(r) : 0;
}

/* Where the next bytes go in one piece, and how many. ring_add() says that they are there. */
static inline uint8_t *ring_space(struct ring *r, size_t *len) {
        size_t at = r->end % r->size, straight = r->size - at;

        *len = ring_room(r) < straight ? ring_room(r) : straight;
        return r->data + at;
}

static inline void ring_add(struct ring *r, size_t n) {
        r->end += n;
}

/* Puts in as much as there is room for. Returns how much. */
static inline size_t ring_put(struct ring *r, const void *data, size_t len) {
        size_t done = 0;

        while (done < len && ring_room(r) > 0) {
                size_t n;
                uint8_t *to = ring_space(r, &n);

                n = n < len - done ? n : len - done;
                memcpy(to, (const uint8_t *)data + done, n);
                ring_add(r, n);
                done += n;
        }
        return done;
}

/* The bytes from number @from on, which is kept, in one piece. */
static inline const uint8_t *ring_bytes(const struct ring *r, uint64_t from, size_t *len) {
        size_t at = from % r->size, straight = r->size - at;

        *len = r->end - from < straight ? r->end - from : straight;
        return r->data + at;
}

static inline void ring_drop(struct ring *r, size_t n) {
        r->begin += n;
}
