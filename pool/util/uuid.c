/* SPDX-License-Identifier: MIT */
#include "pool/util/uuid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int uuid_make(char out[UUID_SIZE]) {
        unsigned char b[16];

        if (getrandom(b, sizeof(b), 0) != sizeof(b))
                return -EIO;
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        snprintf(out, UUID_SIZE, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
                 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
        return 0;
}

bool uuid_is(const char *s) {
        for (size_t i = 0; i < UUID_SIZE - 1; i++) {
                bool dash = i == 8 || i == 13 || i == 18 || i == 23;

                if (!s[i] || !strchr(dash ? "-" : "0123456789abcdef", s[i]))
                        return false;
        }
        return !s[UUID_SIZE - 1];
}

static unsigned char digit(char c) {
        return c <= '9' ? c - '0' : c - 'a' + 10;
}

void uuid_bytes(const char *s, unsigned char out[16]) {
        for (size_t i = 0; i < 16; i++, s += 2) {
                s += *s == '-';
                out[i] = digit(s[0]) << 4 | digit(s[1]);
        }
}
