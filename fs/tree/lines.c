/* SPDX-License-Identifier: MIT */
#include "fs/tree/lines.h"

#include <errno.h>
#include <string.h>

#include "fs/limits.h"

int lines_open(struct handle *h) {
        h->text.max = SETTING_SIZE_MAX;
        return 0;
}

/* Run the complete lines of what was written; with @rest, also the bytes after the last newline. */
static int run_lines(struct handle *h, bool rest, int (*run)(struct handle *h, const char *line)) {
        char *line = h->text.data, *newline;
        int r = 0;

        if (!line)
                return 0;
        while (r == 0 && (newline = strchr(line, '\n'))) {
                *newline = '\0';
                if (*line)
                        r = run(h, line);
                line = newline + 1;
        }
        if (r == 0 && rest && *line) {
                r = run(h, line);
                line += strlen(line);
        }
        if (r < 0) {
                buf_clear(&h->text);
        } else {
                h->text.len -= line - h->text.data;
                memmove(h->text.data, line, h->text.len + 1);
        }
        return r;
}

ssize_t lines_write(struct handle *h, const char *data, size_t len, int (*run)(struct handle *h, const char *line)) {
        int r;

        if (memchr(data, '\0', len))
                return -EINVAL;
        r = buf_append(&h->text, data, len);
        if (r == 0)
                r = run_lines(h, false, run);
        return r < 0 ? r : (ssize_t)len;
}

int lines_flush(struct handle *h, int (*run)(struct handle *h, const char *line)) {
        return run_lines(h, true, run);
}
