/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/control.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "pool/helper/agent/carrier.h"
#include "pool/helper/agent/limits.h"
#include "pool/helper/agent/loop.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

enum state { SERVED, ALONE, CALLED };

static enum state state;
static int control = -1; /* but when ALONE */
static struct sockaddr_un next_daemon = { .sun_family = AF_UNIX };
static uint8_t key[CONTROL_KEY_SIZE];
static int64_t wait_us; /* as WAIT says; 0: not at all */
static int64_t until_us, retry_us; /* while not SERVED */
static void (*on_end)(void);

static void on_packet(struct loop_source *source, uint32_t events);

static struct loop_source source = { .ready = on_packet };

/* A descriptor that came with the packet, or -1. */
static int received_descriptor(struct msghdr *m) {
        struct cmsghdr *c = CMSG_FIRSTHDR(m);
        int fd = -1;

        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(fd)))
                memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        return fd;
}

static void on_closed(void) {
        loop_remove(control);
        close(TAKE_FD(control));
        if (state == SERVED && (wait_us == 0 || !*next_daemon.sun_path)) {
                on_end();
                return;
        }
        if (state == SERVED)
                until_us = clock_after(clock_now(), wait_us);
        state = ALONE;
        retry_us = clock_after(clock_now(), DAEMON_RETRY_US);
}

static void take_wait(const uint8_t *bytes) {
        uint64_t us = 0;

        for (int i = 7; i >= 0; i--)
                us = us << 8 | bytes[i];
        wait_us = us > INT64_MAX ? INT64_MAX : (int64_t)us;
        state = SERVED;
}

static void on_packet(struct loop_source *source, uint32_t events) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int))];
        } descriptor;
        uint8_t bytes[CONTROL_WAIT_SIZE];
        struct iovec iov = { bytes, sizeof(bytes) };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &descriptor, .msg_controllen = sizeof(descriptor)
        };
        ssize_t n = control < 0 ? -1 : recvmsg(control, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        int fd;

        if (control < 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
                return;
        if (n <= 0) {
                on_closed();
                return;
        }
        fd = received_descriptor(&m);
        if (bytes[0] == CONTROL_WAIT && n == CONTROL_WAIT_SIZE)
                take_wait(bytes + 1);
        else if (bytes[0] == CONTROL_END)
                on_end();
        else if (bytes[0] == CONTROL_CARRIER && fd >= 0)
                carriers_add(TAKE_FD(fd));
        close_fd(fd);
}

static int call(void) {
        _cleanup_(cleanup_close) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0 || connect(fd, (const struct sockaddr *)&next_daemon, sizeof(next_daemon)) < 0)
                return -errno;
        if (send(fd, key, sizeof(key), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                return -errno;
        if (loop_add(fd, &source, EPOLLIN) < 0)
                return -ENOMEM;
        control = TAKE_FD(fd);
        state = CALLED;
        return 0;
}

int64_t control_tick(void) {
        int64_t now;

        if (state == SERVED)
                return USEC_NEVER;
        now = clock_now();
        if (now >= until_us)
                on_end();
        if (state == CALLED)
                return until_us;
        if (now >= retry_us && call() < 0)
                retry_us = clock_after(now, DAEMON_RETRY_US);
        return state == ALONE ? clock_earlier(retry_us, until_us) : until_us;
}

int control_init(int fd, const uint8_t given[CONTROL_KEY_SIZE], const char *path, void (*ended)(void)) {
        control = fd;
        on_end = ended;
        memcpy(key, given, sizeof(key));
        if (path && strlen(path) >= sizeof(next_daemon.sun_path))
                return -ENAMETOOLONG;
        if (path)
                strcpy(next_daemon.sun_path, path);
        return loop_add(fd, &source, EPOLLIN);
}

void control_forget_key(void) {
        explicit_bzero(key, sizeof(key));
}
