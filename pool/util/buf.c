/* SPDX-License-Identifier: MIT */
#include "pool/util/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_deinit(struct buf *b) {
        free(b->data);
        *b = (struct buf)BUF_INIT(b->max);
}

void buf_clear(struct buf *b) {
        b->len = 0;
        if (b->data)
                b->data[0] = '\0';
}

static int buf_reserve(struct buf *b, size_t extra) {
        size_t size;
        char *data;

        if (extra > b->max - b->len)
                return -EFBIG;
        if (b->len + extra + 1 <= b->size)
                return 0;

        size = b->size ? b->size : 64;
        while (size < b->len + extra + 1)
                size *= 2;
        data = realloc(b->data, size);
        if (!data)
                return -ENOMEM;
        b->data = data;
        b->size = size;
        return 0;
}

int buf_append(struct buf *b, const void *data, size_t len) {
        int r = buf_reserve(b, len);

        if (r < 0)
                return r;
        if (len)
                memcpy(b->data + b->len, data, len);
        b->len += len;
        b->data[b->len] = '\0';
        return 0;
}

void buf_drop(struct buf *b, size_t n) {
        b->len -= n;
        memmove(b->data, b->data + n, b->len + 1);
}

int buf_printf(struct buf *b, const char *format, ...) {
        va_list ap;
        int n, r;

        va_start(ap, format);
        n = vsnprintf(NULL, 0, format, ap);
        va_end(ap);
        if (n < 0)
                return -EINVAL;

        r = buf_reserve(b, n);
        if (r < 0)
                return r;
        va_start(ap, format);
        vsnprintf(b->data + b->len, n + 1, format, ap);
        va_end(ap);
        b->len += n;
        return 0;
}
