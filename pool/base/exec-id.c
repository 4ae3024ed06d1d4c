/* SPDX-License-Identifier: MIT */
#include "pool/base/exec-id.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "pool/base/limits.h"

/*
 * A random UUID has 122 free bits: 60 before its variant, 62 after it. The
 * instance has the first 64 of them, then come 34 of the serial and 24 of the
 * number (LEASE_SERIAL_MAX, JOB_NUMBER_MAX).
 */
#define TAIL_BITS 62
#define NUMBER_BITS 24

_Static_assert(JOB_NUMBER_MAX < 1 << NUMBER_BITS, "a job's number has no room");
_Static_assert(LEASE_SERIAL_MAX < UINT64_C(1) << (TAIL_BITS - 4 - NUMBER_BITS), "a lease's serial has no room");

void exec_id_make(char out[UUID_SIZE], uint64_t instance, uint64_t lease_serial, uint32_t job_number) {
        uint64_t tail = UINT64_C(2) << TAIL_BITS | (instance & 0xf) << (TAIL_BITS - 4) | lease_serial << NUMBER_BITS |
                        job_number;

        snprintf(out, UUID_SIZE, "%08" PRIx64 "-%04" PRIx64 "-4%03" PRIx64 "-%04" PRIx64 "-%012" PRIx64,
                 instance >> 32, instance >> 16 & 0xffff, instance >> 4 & 0xfff, tail >> 48,
                 tail & UINT64_C(0xffffffffffff));
}

int exec_id_parse(const char *id, uint64_t *instance, uint64_t *lease_serial, uint32_t *job_number) {
        uint64_t a, b, c, d, e, tail;

        if (sscanf(id, "%8" SCNx64 "-%4" SCNx64 "-4%3" SCNx64 "-%4" SCNx64 "-%12" SCNx64, &a, &b, &c, &d, &e) != 5)
                return -EINVAL;
        tail = d << 48 | e;
        if (tail >> TAIL_BITS != 2)
                return -EINVAL;
        *instance = a << 32 | b << 16 | c << 4 | (tail >> (TAIL_BITS - 4) & 0xf);
        *lease_serial = tail >> NUMBER_BITS & LEASE_SERIAL_MAX;
        *job_number = tail & JOB_NUMBER_MAX;
        return 0;
}
