/* SPDX-License-Identifier: MIT */

/*
 * For LD_PRELOAD into a daemon with the local backend: what it says to the helper of a sandbox goes over a network.
 *
 * The backend makes a pair of stream sockets for that. Here the daemon's is a TCP connection between two network
 * namespaces, BENCH_NEAR and BENCH_FAR, paths to them, and at its far end two processes copy between it and the helper's
 * Unix socket, as sshd does for its server: the helper bounds what its socket holds, which over TCP would be what is under
 * way. All else stays as it is. Connecting takes a round trip, and the daemon waits for it: that is once for a carrier.
 * The programs that the daemon starts do not have this.
 */

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAR_ADDRESS "10.79.0.2"
#define COPY_SIZE (256 << 10)

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

static int real_socketpair(int domain, int type, int protocol, int fds[2]) {
        int (*real)(int, int, int, int[2]) = (int (*)(int, int, int, int[2]))dlsym(RTLD_NEXT, "socketpair");

        return real(domain, type, protocol, fds);
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

/* With nothing else of the daemon's open: its mount would outlive it. */
static _Noreturn void copy(int from, int to) {
        static char buffer[COPY_SIZE];
        ssize_t n;

        from = fcntl(from, F_DUPFD, 10);
        to = fcntl(to, F_DUPFD, 10);
        dup2(from, 0);
        dup2(to, 1);
        close_range(2, ~0U, 0);
        signal(SIGPIPE, SIG_DFL);
        while ((n = read(0, buffer, sizeof(buffer))) > 0)
                for (ssize_t at = 0, m; at < n; at += m)
                        if ((m = write(1, buffer + at, n - at)) < 0)
                                _exit(1);
        shutdown(1, SHUT_WR);
        _exit(0);
}

/* As the child of a child, so that the daemon need not wait for it. */
static void start_copying(int from, int to) {
        pid_t child = fork();

        if (child == 0) {
                if (fork() == 0)
                        copy(from, to);
                _exit(0);
        }
        if (child > 0)
                waitpid(child, NULL, 0);
}

static int far_pair(int fds[2]) {
        int tcp[2], local[2];

        if (tcp_pair(tcp) < 0)
                return -1;
        if (real_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, local) < 0)
                abort();
        start_copying(tcp[1], local[0]);
        start_copying(local[0], tcp[1]);
        close(tcp[1]);
        close(local[0]);
        fds[0] = tcp[0];
        fds[1] = local[1];
        return 0;
}

int socketpair(int domain, int type, int protocol, int fds[2]) {
        if (domain == AF_UNIX && type == (SOCK_STREAM | SOCK_CLOEXEC))
                return far_pair(fds);
        return real_socketpair(domain, type, protocol, fds);
}
