/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/descriptors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static int compare_ints(const void *a, const void *b) {
        return *(const int *)a - *(const int *)b;
}

static void close_between(int from, int to) {
        if (from > to || syscall(SYS_close_range, from, to, 0) == 0)
                return;
        for (int fd = from; fd <= to && fd < 1024; fd++)
                close(fd);
}

void descriptors_close_others(const int *keep, size_t n) {
        int sorted[16], next = 3;

        memcpy(sorted, keep, n * sizeof(*keep));
        qsort(sorted, n, sizeof(*sorted), compare_ints);
        for (size_t i = 0; i < n; i++) {
                if (sorted[i] < next)
                        continue;
                close_between(next, sorted[i] - 1);
                next = sorted[i] + 1;
        }
        close_between(next, INT32_MAX);
}
