/* SPDX-License-Identifier: MIT */
#include "fs/daemon/sd-notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

#define SEND_TIMEOUT_MS 100 /* a busy service manager may block the loop for so long */

/* A path, or @ and an abstract name, whose first byte then is a NUL. */
static int set_address(struct notify *n, const char *name) {
        size_t len = strlen(name);

        if ((*name != '/' && *name != '@') || len < 2 || len >= sizeof(n->address.sun_path))
                return -EINVAL;
        n->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
        memcpy(n->address.sun_path, name, len);
        n->address_len = offsetof(struct sockaddr_un, sun_path) + len;
        if (*name == '@')
                n->address.sun_path[0] = '\0';
        return 0;
}

/* Half the time after which the manager considers us dead; 0 if it does not watch us. */
static int64_t read_watchdog(void) {
        const char *interval = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
        uint64_t us, who;

        if (!interval || text_to_u64(interval, &us) < 0 || us > INT64_MAX)
                return 0;
        if (pid && (text_to_u64(pid, &who) < 0 || who != (uint64_t)getpid()))
                return 0;
        return us / 2;
}

void notify_open(struct notify *n) {
        static const struct timeval limit = { .tv_usec = SEND_TIMEOUT_MS * USEC_PER_MSEC };
        const char *name = getenv("NOTIFY_SOCKET");

        *n = (struct notify){ .fd = -1 };
        if (name && *name) {
                if (set_address(n, name) < 0) {
                        log_warning("NOTIFY_SOCKET=%s: neither a path nor an abstract name", name);
                } else {
                        n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                        if (n->fd < 0)
                                log_warning("no socket for NOTIFY_SOCKET: %s", strerror(errno));
                        else
                                setsockopt(n->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
                        n->watchdog_us = read_watchdog();
                }
        }
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
}

void notify_close(struct notify *n) {
        close_fd(TAKE_FD(n->fd));
}

void notify_send(struct notify *n, const char *format, ...) {
        char text[512];
        va_list ap;

        if (n->fd < 0)
                return;
        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (sendto(n->fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&n->address, n->address_len) < 0)
                log_debug("the service manager was not told: %s", strerror(errno));
}

int64_t notify_tick(struct notify *n, int64_t now) {
        if (n->fd < 0 || n->watchdog_us == 0)
                return USEC_NEVER;
        if (n->due_us <= now) {
                notify_send(n, "WATCHDOG=1");
                n->due_us = clock_after(now, n->watchdog_us);
        }
        return n->due_us;
}
