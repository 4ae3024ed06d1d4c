/* SPDX-License-Identifier: MIT */

/* events LEASE JOB [edges]: see test_languages.py; with epoll, by levels, or by edges: reads until EAGAIN, then waits. */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static uint32_t edges; /* EPOLLET, or nothing */

static void write_file(const char *name, const char *text) {
        int fd = open(name, O_WRONLY);

        if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) < 0)
                err(1, "%s", name);
}

static int watch(int fd, int op, uint32_t events, int epoll) {
        if (epoll < 0)
                epoll = epoll_create1(EPOLL_CLOEXEC);
        if (epoll < 0 || epoll_ctl(epoll, op, fd, &(struct epoll_event){ .events = events | edges }) < 0)
                err(1, "epoll_ctl");
        return epoll;
}

static uint32_t wait_for(int epoll) {
        struct epoll_event event;

        if (epoll_wait(epoll, &event, 1, -1) != 1)
                err(1, "epoll_wait");
        return event.events;
}

/* Print what comes, and answer when the first line is there. */
static void show(int fd, int epoll) {
        char data[256];
        size_t len = 0;
        ssize_t n;

        for (;;) {
                n = read(fd, data + len, sizeof(data) - 1 - len);
                if (n < 0 && errno == EAGAIN) {
                        while (!(wait_for(epoll) & EPOLLIN))
                                ;
                        continue;
                }
                if (n < 0)
                        err(1, "read");
                if (n == 0)
                        break;
                len += n;
                data[len] = '\0';
                if (!strcmp(data, "one\n"))
                        write_file("ctl", "signal USR1\n");
                if (!edges)
                        wait_for(epoll);
        }
        fwrite(data, 1, len, stdout);
        close(epoll);
        close(fd);
}

static void show_file(const char *name) {
        int fd = open(name, O_RDONLY | O_NONBLOCK);

        if (fd < 0)
                err(1, "%s", name);
        show(fd, watch(fd, EPOLL_CTL_ADD, EPOLLIN, -1));
}

int main(int argc, char **argv) {
        int fd, epoll;

        if (argc < 3 || chdir(argv[1]) < 0)
                errx(2, "usage: events LEASE JOB [edges]");
        edges = argc > 3 ? EPOLLET : 0;
        write_file("cmd", argv[2]);
        show_file("output");
        show_file("exit_code");

        /* One command: waiting between its parts changes nothing. */
        fd = open("cmd", O_RDWR | O_NONBLOCK);
        if (fd < 0)
                err(1, "cmd");
        epoll = watch(fd, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT, -1);
        if (!(wait_for(epoll) & EPOLLOUT) || write(fd, "echo a", 6) != 6)
                err(1, "cmd");
        watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT, epoll);
        if (!(wait_for(epoll) & EPOLLOUT) || write(fd, "b", 1) != 1)
                err(1, "cmd");
        watch(fd, EPOLL_CTL_MOD, EPOLLIN, epoll);
        show(fd, epoll);

        write_file("timeout", "0.2\n");
        write_file("cmd", "sleep 1000");
        show_file("exit_code");
        return 0;
}
