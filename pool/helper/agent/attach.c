/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "pool/util/cleanup.h"

#define BUFFER_SIZE (64 << 10)

/* One direction: bytes from one descriptor to the other. */
struct flow {
        int from, to;
        bool open; /* there may be more to read */
        size_t start, len;
        char buffer[BUFFER_SIZE];
};

static void flow_read(struct flow *f) {
        ssize_t n = read(f->from, f->buffer, sizeof(f->buffer));

        if (n > 0) {
                f->start = 0;
                f->len = n;
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
                f->open = false;
        }
}

/* False: nobody takes them. */
static bool flow_write(struct flow *f) {
        ssize_t n = write(f->to, f->buffer + f->start, f->len);

        if (n < 0)
                return errno == EINTR || errno == EAGAIN;
        f->start += n;
        f->len -= n;
        return true;
}

/* Until the helper closes, or nobody reads what it says. */
static void carry(struct flow *in, struct flow *out) {
        bool told = false;

        while (out->open || out->len > 0) {
                struct pollfd fds[] = {
                        { .fd = in->len == 0 && in->open ? in->from : -1, .events = POLLIN },
                        { .fd = in->len > 0 ? in->to : -1, .events = POLLOUT },
                        { .fd = out->len == 0 && out->open ? out->from : -1, .events = POLLIN },
                        { .fd = out->to, .events = out->len > 0 ? POLLOUT : 0 },
                };

                if (poll(fds, 4, -1) < 0)
                        continue;
                if (fds[0].revents)
                        flow_read(in);
                if (fds[1].revents && !flow_write(in)) {
                        in->open = false;
                        in->len = 0;
                }
                if (fds[2].revents)
                        flow_read(out);
                else if (fds[3].revents && (out->len == 0 || !flow_write(out)))
                        return;
                if (!in->open && in->len == 0 && !told) {
                        shutdown(in->to, SHUT_WR);
                        told = true;
                }
        }
}

int attach(const char *path) {
        static struct flow in, out; /* no initial values: those would lie in the file */
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_(cleanup_close) int fd = -1;

        if (strlen(path) >= sizeof(address.sun_path)) {
                fprintf(stderr, "modalpool-helper: %s is too long for a socket\n", path);
                return 1;
        }
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
                fprintf(stderr, "modalpool-helper: %s: %s\n", path, strerror(errno));
                return 1;
        }
        signal(SIGPIPE, SIG_IGN);
        /* A write that waited in one direction would hold up the other. */
        fcntl(fd, F_SETFL, O_NONBLOCK);
        fcntl(STDOUT_FILENO, F_SETFL, fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
        in.open = out.open = true;
        in.from = STDIN_FILENO;
        in.to = out.from = fd;
        out.to = STDOUT_FILENO;
        carry(&in, &out);
        return 0;
}
