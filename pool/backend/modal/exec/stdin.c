/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/exec/stdin.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "pool/util/cleanup.h"

#define N_PARTS 3
#define PIECE 16384

void modal_stdin_deinit(struct modal_stdin *in) {
        buf_deinit(&in->head);
        for (int i = 0; i < 2; i++)
                close_fd(TAKE_FD(in->fds[i]));
}

static uint64_t size_of(const struct modal_stdin *in, unsigned part) {
        return part == 0 ? in->head.len : in->lens[part - 1];
}

bool modal_stdin_is_over(const struct modal_stdin *in) {
        uint64_t at = in->at;

        for (unsigned part = in->part; part < N_PARTS; part++, at = 0)
                if (at < size_of(in, part))
                        return false;
        return true;
}

/* Up to @len of the next bytes; 0 at the end only. */
static ssize_t read_some(struct modal_stdin *in, char *out, size_t len) {
        uint64_t left;
        ssize_t n = 0;

        for (;; in->part++, in->at = 0) {
                if (in->part == N_PARTS)
                        return 0;
                left = size_of(in, in->part) - in->at;
                if (left > 0)
                        break;
        }
        if (len > left)
                len = left;
        if (in->part == 0) {
                memcpy(out, in->head.data + in->at, len);
                n = len;
        } else {
                do
                        n = read(in->fds[in->part - 1], out, len);
                while (n < 0 && errno == EINTR);
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
        }
        in->at += n;
        return n;
}

int modal_stdin_read(struct modal_stdin *in, struct buf *out) {
        char piece[PIECE];
        ssize_t n = 1;
        int r = 0;

        while (r == 0 && out->len < out->max && n > 0) {
                size_t room = out->max - out->len;

                n = read_some(in, piece, room < PIECE ? room : PIECE);
                r = n < 0 ? (int)n : buf_append(out, piece, n);
        }
        return r;
}

int modal_stdin_skip(struct modal_stdin *in, uint64_t n) {
        char piece[PIECE];
        ssize_t passed = 1;

        for (; n > 0 && passed > 0; n -= passed > 0 ? passed : 0)
                passed = read_some(in, piece, n < PIECE ? n : PIECE);
        return passed < 0 ? (int)passed : 0;
}
