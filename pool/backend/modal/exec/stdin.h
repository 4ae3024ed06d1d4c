/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The standard input of a process: bytes in memory, then those of up to two descriptors, read one after the other.
 *
 * The descriptors may be pipes, so what was read can only be read again by its reader.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/util/buf.h"

struct modal_feed {
        struct buf head;
        int fds[2];       /* or -1; theirs are … */
        uint64_t lens[2]; /* … so many bytes */
        bool eof;         /* the input ends after that */
        /* state */
        unsigned part;
        uint64_t at; /* in the part */
};

#define MODAL_FEED_INIT(head_max) { .head = BUF_INIT(head_max), .fds = { -1, -1 } }

void modal_feed_deinit(struct modal_feed *f);

/* Add the next bytes to @out, up to its maximum or the end. 0 or -errno; -EIO: a descriptor gives too little. */
int modal_feed_read(struct modal_feed *f, struct buf *out);

/* Pass over up to @n bytes. As above. */
int modal_feed_skip(struct modal_feed *f, uint64_t n);

bool modal_feed_is_over(const struct modal_feed *f);
