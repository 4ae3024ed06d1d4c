/* SPDX-License-Identifier: MIT */

/* Names of jobs: UUIDs of version 4, made of three numbers, which are in them. */

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "check.h"
#include "pool/base/exec-id.h"
#include "pool/base/limits.h"

static void check_pair(uint64_t instance, uint64_t serial, uint32_t number) {
        uint64_t i = 0, s = 0;
        uint32_t n = 0;
        char id[UUID_SIZE];

        exec_id_make(id, instance, serial, number);
        CHECK_INT(strlen(id), UUID_SIZE - 1);
        for (int at = 0; at < UUID_SIZE - 1; at++)
                CHECK(at == 8 || at == 13 || at == 18 || at == 23 ? id[at] == '-' : isxdigit((unsigned char)id[at]));
        CHECK(id[14] == '4');
        CHECK(strchr("89ab", id[19]));
        CHECK_INT(exec_id_parse(id, &i, &s, &n), 0);
        CHECK(i == instance && s == serial && n == number);
}

static void round_trip(void) {
        check_pair(0, 1, 1);
        check_pair(UINT64_MAX, LEASE_SERIAL_MAX, JOB_NUMBER_MAX);
        check_pair(UINT64_C(0x0123456789abcdef), 12345678901, 70000);
        for (int bit = 0; bit < 64; bit++)
                check_pair(UINT64_C(1) << bit, 1, 1);
        for (int bit = 0; bit < 34; bit++)
                check_pair(0, UINT64_C(1) << bit, 1);
        for (int bit = 0; bit < 24; bit++)
                check_pair(0, 1, UINT32_C(1) << bit);
}

static void others_are_refused(void) {
        static const char *const others[] = {
                "", "x", "0123456789abcdef-1.1", "00000000-0000-1000-8000-000000000000",
                "00000000-0000-4000-c000-000000000000",
        };
        uint64_t i, s;
        uint32_t n;

        for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++)
                CHECK_INT(exec_id_parse(others[k], &i, &s, &n), -EINVAL);
}

int main(void) {
        RUN(round_trip);
        RUN(others_are_refused);
        return check_done();
}
