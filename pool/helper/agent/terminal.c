/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pool/util/cleanup.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif

/* Without its name, which may stand for something else in a sandbox; by name where the kernel cannot do so. */
static int open_slave(int master) {
        int fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        char path[32];
        unsigned number;

        if (fd >= 0)
                return fd;
        if (ioctl(master, TIOCGPTN, &number) < 0)
                return -errno;
        snprintf(path, sizeof(path), "/dev/pts/%u", number);
        fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

void terminal_resize(int master, uint16_t rows, uint16_t columns) {
        struct winsize size = { .ws_row = rows, .ws_col = columns };

        ioctl(master, TIOCSWINSZ, &size);
}

int terminal_open(uint16_t rows, uint16_t columns, int *master, int *slave) {
        _cleanup_(cleanup_close) int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
        int unlocked = 0, r;

        if (fd < 0)
                return -errno;
        if (ioctl(fd, TIOCSPTLCK, &unlocked) < 0)
                return -errno;
        terminal_resize(fd, rows, columns);
        r = open_slave(fd);
        if (r < 0)
                return r;
        *slave = r;
        *master = TAKE_FD(fd);
        return 0;
}
