/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/rpc/jwt.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        if (jwt_expiry((const char *)data, len) < -100000)
                __builtin_trap();
        return 0;
}
