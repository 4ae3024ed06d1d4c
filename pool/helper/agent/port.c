/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/helper/agent/channel.h"
#include "pool/util/cleanup.h"

union address {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
};

static socklen_t loopback(union address *a, uint16_t port, bool is_ipv6) {
        memset(a, 0, sizeof(*a));
        if (is_ipv6) {
                a->v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback };
                return sizeof(a->v6);
        }
        a->v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        return sizeof(a->v4);
}

/*
 * A connection to a port that nobody listens on, from a port that the kernel has chosen, may meet itself: TCP takes that for
 * a simultaneous open.
 */
static bool is_itself(int fd) {
        union address own = {}, peer = {};
        socklen_t own_len = sizeof(own), peer_len = sizeof(peer);

        return getsockname(fd, &own.any, &own_len) == 0 && getpeername(fd, &peer.any, &peer_len) == 0 &&
               own_len == peer_len && memcmp(&own, &peer, own_len) == 0;
}

static int begin(struct channel *c) {
        union address a;
        socklen_t len = loopback(&a, c->port, c->is_ipv6);
        int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, r;

        if (fd < 0)
                return -errno;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (connect(fd, &a.any, len) < 0 && errno != EINPROGRESS) {
                r = -errno;
                close(fd);
                return r;
        }
        r = channel_use(c, fd);
        if (r < 0)
                channel_unuse(c);
        return r;
}

/* The second try says nothing new, unless it has found somebody. */
static int begin_ipv6(struct channel *c, int first) {
        c->is_ipv6 = true;
        return begin(c) < 0 ? first : 0;
}

static int port_open(struct channel *c, const struct frame *f) {
        int r;

        c->port = f->port;
        r = begin(c);
        return r < 0 ? begin_ipv6(c, r) : 0;
}

static void port_connected(struct channel *c) {
        int error = 0, r;
        socklen_t len = sizeof(error);

        if (!c->writable)
                return;
        r = getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
        if (r == 0 && is_itself(c->fd))
                r = -ECONNREFUSED;
        if (r < 0) {
                channel_unuse(c);
                r = c->is_ipv6 ? -ECONNREFUSED : begin_ipv6(c, r);
        } else {
                channel_opened(c);
        }
        if (r < 0)
                channel_fail(c, r);
}

const struct channel_ops port_channel = {
        .open = port_open,
        .ready = port_connected,
};
