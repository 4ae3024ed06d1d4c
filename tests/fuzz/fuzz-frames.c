/* SPDX-License-Identifier: MIT */
#include "pool/net/grpc-wire.h"
#include "tests/fuzz/fuzz.h"

static int take(void *owner, const void *message, size_t len) {
        size_t *sum = owner;

        for (size_t i = 0; i < len; i++)
                *sum += ((const uint8_t *)message)[i];
        return *sum % 2;
}

/* The first byte says in what pieces the rest arrives. Whatever the pieces and the pauses, the same comes out. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        size_t sums[2] = {}, pieces[2];
        ssize_t results[2] = {};

        if (len == 0)
                return 0;
        pieces[0] = data[0] % 16 + 1;
        pieces[1] = len;
        for (int i = 0; i < 2; i++) {
                struct grpc_frames f;

                grpc_frames_init(&f, 1000);
                for (size_t at = 1; at < len && results[i] >= 0;) {
                        results[i] = grpc_frames_push(&f, data + at, len - at < pieces[i] ? len - at : pieces[i], take,
                                                      &sums[i]);
                        if (results[i] == 0)
                                __builtin_trap();
                        at += results[i] > 0 ? results[i] : 0;
                }
                if (results[i] > 0)
                        results[i] = 0;
                grpc_frames_deinit(&f);
        }
        if (results[0] != results[1] || sums[0] != sums[1])
                __builtin_trap();
        return 0;
}
