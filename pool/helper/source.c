/* SPDX-License-Identifier: MIT */
#include "pool/helper/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/util/cleanup.h"
#include "pool/util/io.h"

int source_init(struct source *s, const struct blob *blob) {
        *s = (struct source){ .fd = -1 };
        if (!blob || blob->size == 0)
                return 0;
        if (blob_is_file(blob)) {
                s->fd = blob_open(blob);
                if (s->fd < 0)
                        return s->fd;
        } else {
                s->bytes = malloc(blob->size);
                if (!s->bytes)
                        return -ENOMEM;
                memcpy(s->bytes, blob_bytes(blob), blob->size);
        }
        s->size = blob->size;
        return 0;
}

void source_deinit(struct source *s) {
        if (s->size > 0)
                close_fd(TAKE_FD(s->fd));
        free(TAKE_PTR(s->bytes));
        s->size = 0;
}

bool source_read(const struct source *s, uint64_t offset, void *data, size_t len) {
        if (offset + len > s->size)
                return false;
        if (s->bytes) {
                memcpy(data, s->bytes + offset, len);
                return true;
        }
        return read_at(s->fd, data, len, offset) == (ssize_t)len;
}
