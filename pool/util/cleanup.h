/* SPDX-License-Identifier: MIT */
#pragma once

/* Scope-bound clean-up: destructors for the compiler's cleanup attribute. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Give a resource away: the variable is emptied, so its clean-up does nothing. */
#define TAKE_PTR(p)                        \
        ({                                 \
                __typeof__(p) _taken = (p); \
                (p) = NULL;                \
                _taken;                    \
        })
#define TAKE_FD(fd)                        \
        ({                                 \
                int _taken = (fd);         \
                (fd) = -1;                 \
                _taken;                    \
        })

static inline void cleanup_free(void *p) {
        free(*(void **)p);
}

/* Close @fd when it is one. */
static inline void close_fd(int fd) {
        if (fd >= 0)
                close(fd);
}

static inline void cleanup_close(int *fd) {
        close_fd(*fd);
}

static inline void cleanup_fclose(FILE **f) {
        if (*f)
                fclose(*f);
}
