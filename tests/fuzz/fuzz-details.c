/* SPDX-License-Identifier: MIT */
#include "pool/net/grpc-wire.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        int64_t us = grpc_retry_after(data, len);

        if (us < -1 || us > INT64_C(3600000000))
                __builtin_trap();
        return 0;
}
