/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bytes in memory that grow up to a fixed maximum.
 *
 * Embedded in its owner. data is NULL, or it has len bytes and a final NUL, so
 * that text can be read as a string.
 */

#include <stdarg.h>
#include <stddef.h>

struct buf {
        char *data;
        size_t len;
        size_t size; /* bytes allocated */
        size_t max;  /* of len */
};

#define BUF_INIT(maximum) { .max = (maximum) }

void buf_deinit(struct buf *b);

/* Drop the bytes and keep the memory. */
void buf_clear(struct buf *b);

/* 0, -EFBIG past the maximum, -ENOMEM; unchanged on failure. */
int buf_append(struct buf *b, const void *data, size_t len);
int buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Forget the first @n bytes; there are so many. */
void buf_drop(struct buf *b, size_t n);

/* The text so far; never NULL. */
static inline const char *buf_text(const struct buf *b) {
        return b->data ? b->data : "";
}
