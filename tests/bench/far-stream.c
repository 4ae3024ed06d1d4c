/* SPDX-License-Identifier: MIT */

/*
 * For LD_PRELOAD into a daemon with the local backend: what it says to the helper of a sandbox goes over a network.
 *
 * The backend makes a pair of stream sockets for that. Here such a pair is a TCP connection between two network
 * namespaces, BENCH_NEAR and BENCH_FAR, paths to them. All else stays as it is. Connecting takes a round trip, and the
 * daemon waits for it: that is once for a carrier. The programs that the daemon starts do not have this.
 */

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAR_ADDRESS "10.79.0.2"

static int near = -1, far = -1, home = -1;

__attribute__((constructor)) static void start(void) {
        const char *near_path = getenv("BENCH_NEAR"), *far_path = getenv("BENCH_FAR");

        near = near_path ? open(near_path, O_RDONLY | O_CLOEXEC) : -1;
        far = far_path ? open(far_path, O_RDONLY | O_CLOEXEC) : -1;
        home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (near < 0 || far < 0 || home < 0)
                abort(); /* what would be measured is not what was asked for */
        unsetenv("LD_PRELOAD");
        unsetenv("BENCH_NEAR");
        unsetenv("BENCH_FAR");
}

static int socket_in(int namespace) {
        int fd = -1, one = 1;

        if (setns(namespace, CLONE_NEWNET) == 0)
                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (setns(home, CLONE_NEWNET) < 0)
                abort();
        if (fd >= 0)
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        return fd;
}

static int tcp_pair(int fds[2]) {
        struct sockaddr_in address = { .sin_family = AF_INET };
        socklen_t len = sizeof(address);
        int one = 1, listener = socket_in(far);

        inet_pton(AF_INET, FAR_ADDRESS, &address.sin_addr);
        fds[0] = socket_in(near);
        fds[1] = -1;
        if (listener >= 0 && fds[0] >= 0 && bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 1) == 0 &&
            getsockname(listener, (struct sockaddr *)&address, &len) == 0 &&
            connect(fds[0], (struct sockaddr *)&address, len) == 0)
                fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        close(listener);
        if (fds[1] >= 0) {
                setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                return 0;
        }
        close(fds[0]);
        errno = ECONNREFUSED;
        return -1;
}

int socketpair(int domain, int type, int protocol, int fds[2]) {
        int (*real)(int, int, int, int[2]) = (int (*)(int, int, int, int[2]))dlsym(RTLD_NEXT, "socketpair");

        if (domain == AF_UNIX && type == (SOCK_STREAM | SOCK_CLOEXEC))
                return tcp_pair(fds);
        return real(domain, type, protocol, fds);
}
