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

struct modal_stdin {
        struct buf head;
        int fds[2];       /* or -1; theirs are … */
        uint64_t lens[2]; /* … so many bytes */
        bool eof;         /* the input ends after that */
        /* state */
        unsigned part;
        uint64_t at; /* in the part */
};

#define MODAL_STDIN_INIT(head_max) { .head = BUF_INIT(head_max), .fds = { -1, -1 } }

void modal_stdin_deinit(struct modal_stdin *in);

/* Add the next bytes to @out, up to its maximum or the end. 0 or -errno; -EIO: a descriptor gives too little. */
int modal_stdin_read(struct modal_stdin *in, struct buf *out);

/* Pass over up to @n bytes. As above. */
int modal_stdin_skip(struct modal_stdin *in, uint64_t n);

bool modal_stdin_is_over(const struct modal_stdin *in);
