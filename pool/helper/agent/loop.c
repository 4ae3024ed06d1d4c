/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "pool/util/clock.h"

#define EVENTS_AT_ONCE 64

static int epoll = -1;

int loop_init(void) {
        epoll = epoll_create1(EPOLL_CLOEXEC);
        return epoll < 0 ? -errno : 0;
}

int loop_add(int fd, struct loop_source *source, uint32_t events) {
        struct epoll_event e = { .events = events, .data.ptr = source };

        return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

int loop_change(int fd, struct loop_source *source, uint32_t events) {
        struct epoll_event e = { .events = events, .data.ptr = source };

        return epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e) < 0 ? -errno : 0;
}

void loop_remove(int fd) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
}

void loop_turn(int64_t until_us) {
        struct epoll_event events[EVENTS_AT_ONCE];
        int64_t now = clock_now(), wait_ms = -1;
        int n;

        if (until_us != USEC_NEVER)
                wait_ms = until_us <= now ? 0 : (until_us - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC;
        if (wait_ms > INT32_MAX)
                wait_ms = INT32_MAX;
        n = epoll_wait(epoll, events, EVENTS_AT_ONCE, (int)wait_ms);
        for (int i = 0; i < n; i++) {
                struct loop_source *source = events[i].data.ptr;

                source->ready(source, events[i].events);
        }
}
