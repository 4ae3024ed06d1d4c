/* SPDX-License-Identifier: MIT */

/* stdio LEASE: a long command and a long output through stdio's buffers. */

#include <err.h>
#include <stdio.h>

int main(int argc, char **argv) {
        char path[4096], line[256];
        int n = 0;
        FILE *f;

        if (argc != 2)
                errx(2, "usage: stdio LEASE");
        snprintf(path, sizeof(path), "%s/cmd", argv[1]);
        f = fopen(path, "w");
        if (!f)
                err(1, "%s", path);
        for (int i = 0; i < 60000; i++)
                fprintf(f, "echo %d\n", i);
        if (fclose(f))
                err(1, "%s", path);

        snprintf(path, sizeof(path), "%s/output", argv[1]);
        f = fopen(path, "r");
        if (!f)
                err(1, "%s", path);
        while (fgets(line, sizeof(line), f)) {
                int value;

                if (sscanf(line, "%d", &value) != 1 || value != n)
                        errx(1, "line %d is \"%s\"", n, line);
                n++;
        }
        if (ferror(f))
                err(1, "%s", path);
        printf("%d lines\n", n);
        return 0;
}
