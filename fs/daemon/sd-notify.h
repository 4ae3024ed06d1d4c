/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Messages to the service manager (sd_notify(3)): ready, status, watchdog,
 * stopping. Without a service manager these functions do nothing.
 */

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
        int fd; /* -1: no service manager */
        struct sockaddr_un address;
        socklen_t address_len;
        int64_t watchdog_us; /* between watchdog messages; 0: none are wanted */
        int64_t due_us; /* of the next one */
};

/* Reads $NOTIFY_SOCKET and $WATCHDOG_*, and unsets them, so that no child sends messages for us. */
void notify_open(struct notify *n);
void notify_close(struct notify *n);

/* Send lines KEY=VALUE as one message. */
void notify_send(struct notify *n, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Call in each turn of the loop: sends a watchdog message when one is due. Returns when the next is due, or USEC_NEVER.
 */
int64_t notify_tick(struct notify *n, int64_t now);
