/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A digest of 64 bits, for what changes by accident: whoever wants two things to have the same digest can do it.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t digest_add(uint64_t digest, uint64_t value) {
        digest ^= value;
        digest *= UINT64_C(0x9e3779b97f4a7c15);
        digest ^= digest >> 32;
        digest *= UINT64_C(0xd6e8feb86659fd93);
        return digest ^ digest >> 29;
}

static inline uint64_t digest_add_bytes(uint64_t digest, const void *data, size_t len) {
        const char *p = data;
        uint64_t word;

        digest = digest_add(digest, len);
        for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
                memcpy(&word, p, sizeof(word));
                digest = digest_add(digest, word);
        }
        word = 0;
        memcpy(&word, p, len);
        return len > 0 ? digest_add(digest, word) : digest;
}

static inline uint64_t digest_add_string(uint64_t digest, const char *string) {
        return digest_add_bytes(digest, string, strlen(string));
}
