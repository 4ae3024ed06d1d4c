/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "pool/helper/protocol.h"
#include "tests/fuzz/fuzz.h"

#define FRAMES_MAX 64

/* Decodes what comes in pieces of that size. How many frames there were, or the error, and their bytes once more. */
static int decode(const uint8_t *data, size_t len, enum frame_sender from, size_t piece, uint8_t *again,
                  size_t *n_again) {
        static struct decoder d;
        int n = 0, r = 0;

        decoder_init(&d, from);
        *n_again = 0;
        while (len > 0 && r == 0) {
                size_t room, part = len < piece ? len : piece;
                uint8_t *p = decoder_room(&d, &room);
                struct frame f;

                if (room == 0)
                        abort(); /* it would wait for ever */
                part = part < room ? part : room;
                memcpy(p, data, part);
                decoder_add(&d, part);
                data += part;
                len -= part;
                while ((r = decoder_next(&d, &f)) == 1) {
                        if (f.len > frame_data_max(f.type) || n == FRAMES_MAX)
                                abort();
                        *n_again += frame_encode(&f, again + *n_again);
                        n++;
                }
        }
        return r < 0 ? r : n;
}

/* The first byte says who sent it, and in what pieces. Whatever they are, what comes out is what went in. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        static uint8_t again[2][8192];
        size_t n_again[2];
        int r[2];

        if (len < 1 || len > 256)
                return 0; /* at most 64 frames of four bytes */
        for (int i = 0; i < 2; i++)
                r[i] = decode(data + 1, len - 1, data[0] & 1, i ? len : data[0] / 2 % 16 + 1U, again[i], &n_again[i]);
        if (r[0] != r[1] || n_again[0] != n_again[1] || memcmp(again[0], again[1], n_again[0]))
                abort();
        if (n_again[0] > len - 1 || memcmp(again[0], data + 1, n_again[0]))
                abort();
        return 0;
}
