/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a service manager is told (sd_notify(3)): that we are ready, how we are,
 * that the loop turns, that we stop. Without one everything here does nothing.
 */

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
        int fd; /* -1: nobody listens */
        struct sockaddr_un address;
        socklen_t address_len;
        int64_t watchdog_us; /* between signs of life; 0: none are wanted */
        int64_t due_us;
};

/* From $NOTIFY_SOCKET and $WATCHDOG_*, which are then unset: no child is to speak for us. */
void notify_open(struct notify *n);
void notify_close(struct notify *n);

/* Lines KEY=VALUE, in one message. */
void notify_send(struct notify *n, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Call in each turn of the loop: a sign of life when one is due. The time of the next, or USEC_NEVER. */
int64_t notify_tick(struct notify *n, int64_t now);
