/* SPDX-License-Identifier: MIT */
#pragma once

/* The command lines of `modalpool run` and `modalpool shell`. */

#include <stdbool.h>

#include "pool/util/buf.h"
#include "pool/util/result.h"

struct arguments {
        const char *dir;
        const char *const *words; /* of the command, up to a NULL; none: a shell */
        struct buf env;     /* lines KEY=VALUE */
        const char *cwd;    /* these three: as they were given, or NULL */
        const char *user;
        const char *timeout;
        bool is_shell; /* a login shell, by `modalpool shell` */
        bool has_terminal;
        bool has_no_input;
};

/*
 * @argv begins with the word run or shell, and outlives @a. 0: go on. 1: done, as after -h. -errno with @why filled in.
 */
int arguments_read(struct arguments *a, int argc, char **argv, struct result *why);
void arguments_deinit(struct arguments *a);
