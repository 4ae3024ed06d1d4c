/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/control.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "pool/helper/agent/carrier.h"
#include "pool/helper/agent/loop.h"
#include "pool/util/cleanup.h"

static int control = -1;
static void (*on_end)(void);

/* A descriptor that came with the packet, or -1. */
static int received_descriptor(struct msghdr *m) {
        struct cmsghdr *c = CMSG_FIRSTHDR(m);
        int fd = -1;

        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(fd)))
                memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        return fd;
}

static void on_packet(struct loop_source *source, uint32_t events) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int))];
        } descriptor;
        char byte;
        struct iovec iov = { &byte, 1 };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &descriptor, .msg_controllen = sizeof(descriptor)
        };
        ssize_t n = recvmsg(control, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        int fd;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                on_end();
                return;
        }
        fd = received_descriptor(&m);
        if (fd >= 0)
                carriers_add(fd);
}

static struct loop_source source = { .ready = on_packet };

int control_init(int fd, void (*ended)(void)) {
        control = fd;
        on_end = ended;
        return loop_add(fd, &source, EPOLLIN);
}
