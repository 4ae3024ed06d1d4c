/* SPDX-License-Identifier: MIT */

/* stream LEASE JOB: see test_languages.py; with the stdio of C. */

#include <err.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static FILE *open_file(const char *name, const char *mode) {
        FILE *f = fopen(name, mode);

        if (!f)
                err(1, "%s", name);
        return f;
}

static void write_file(const char *name, const char *text) {
        FILE *f = open_file(name, "w");

        if (fputs(text, f) < 0 || fclose(f))
                err(1, "%s", name);
}

/* Print what comes, a line at a time, and answer the first. */
static void show(const char *name, FILE *f) {
        char line[256];

        while (fgets(line, sizeof(line), f)) {
                fputs(line, stdout);
                if (!strcmp(line, "one\n"))
                        write_file("ctl", "signal USR1\n");
        }
        if (ferror(f))
                err(1, "%s", name);
        fclose(f);
}

int main(int argc, char **argv) {
        FILE *f;

        if (argc != 3 || chdir(argv[1]) < 0)
                errx(2, "usage: stream LEASE JOB");
        write_file("cmd", argv[2]);
        show("output", open_file("output", "r"));
        show("exit_code", open_file("exit_code", "r"));

        f = open_file("cmd", "r+");
        fputs("echo a", f);
        fflush(f);
        fputs("b", f);
        fflush(f);
        show("cmd", f);

        write_file("timeout", "0.2\n");
        write_file("cmd", "sleep 1000");
        show("exit_code", open_file("exit_code", "r"));
        return 0;
}
