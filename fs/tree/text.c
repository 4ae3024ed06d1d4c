/* SPDX-License-Identifier: MIT */

/* Text files: each read at offset 0 renders the contents again. */

#include <errno.h>

#include "fs/handle.h"

static ssize_t text_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        struct target t = handle_target(h);
        int r;

        if (offset == 0) {
                buf_clear(&h->text);
                r = h->file->render(&t, &h->text);
                if (r < 0)
                        return r;
        }
        return read_text(&h->text, offset, data, len);
}

const struct file_ops text_ops = {
        .read = text_read,
};
