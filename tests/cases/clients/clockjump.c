/* SPDX-License-Identifier: MIT */

/* Preloaded: wall time differs by as many seconds as the file CLOCKJUMP holds at that moment. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long jump(void) {
        const char *path = getenv("CLOCKJUMP");
        FILE *f = path ? fopen(path, "r") : NULL;
        long seconds = 0;

        if (f) {
                if (fscanf(f, "%ld", &seconds) != 1)
                        seconds = 0;
                fclose(f);
        }
        return seconds;
}

int clock_gettime(clockid_t id, struct timespec *ts) {
        static int (*real)(clockid_t, struct timespec *);
        int r;

        if (!real)
                real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
        r = real(id, ts);
        if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
                ts->tv_sec += jump();
        return r;
}

int gettimeofday(struct timeval *tv, void *zone) {
        struct timespec ts;

        (void)zone;
        clock_gettime(CLOCK_REALTIME, &ts);
        tv->tv_sec = ts.tv_sec;
        tv->tv_usec = ts.tv_nsec / 1000;
        return 0;
}

time_t time(time_t *out) {
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        if (out)
                *out = ts.tv_sec;
        return ts.tv_sec;
}
