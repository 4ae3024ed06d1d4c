/* SPDX-License-Identifier: MIT */

/* round LEASE COMMAND: a lease, a command, its output and exit code, with plain system calls. */

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void show(const char *name) {
        char data[4096];
        ssize_t n;
        int fd = open(name, O_RDONLY);

        if (fd < 0)
                err(1, "open %s", name);
        while ((n = read(fd, data, sizeof(data))) > 0)
                if (write(1, data, n) != n)
                        err(1, "write");
        if (n < 0)
                err(1, "read %s", name);
        close(fd);
}

int main(int argc, char **argv) {
        int fd;

        if (argc != 3)
                errx(2, "usage: round LEASE COMMAND");
        if (mkdir(argv[1], 0777) < 0 || chdir(argv[1]) < 0)
                err(1, "mkdir %s", argv[1]);
        fd = open("cmd", O_WRONLY);
        if (fd < 0)
                err(1, "open cmd");
        for (const char *c = argv[2]; *c; c++)
                if (write(fd, c, 1) != 1)
                        err(1, "write cmd");
        if (close(fd) < 0)
                err(1, "close cmd");
        show("output");
        show("exit_code");
        if (chdir("..") < 0 || rmdir(argv[1]) < 0)
                err(1, "rmdir %s", argv[1]);
        return 0;
}
