/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "pool/util/uuid.h"

static void form(void) {
        char uuid[UUID_SIZE];

        CHECK_INT(uuid_make(uuid), 0);
        CHECK(uuid_is(uuid));
        CHECK(uuid_is("01234567-89ab-4def-8123-456789abcdef"));
        CHECK(!uuid_is("01234567-89AB-4def-8123-456789abcdef"));
        CHECK(!uuid_is("0123456789ab-4def-8123-456789abcdef"));
        CHECK(!uuid_is("01234567-89ab-4def-8123-456789abcdef0"));
        CHECK(!uuid_is(""));
}

static void bytes(void) {
        static const unsigned char expected[16] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x4d, 0xef,
                                                    0x81, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };
        unsigned char got[16];

        uuid_bytes("01234567-89ab-4def-8123-456789abcdef", got);
        CHECK(!memcmp(got, expected, sizeof(got)));
}

int main(void) {
        RUN(form);
        RUN(bytes);
        return check_done();
}
