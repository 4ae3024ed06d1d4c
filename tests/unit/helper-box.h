/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A backend whose sandboxes have a helper: each is a process `serve` on this machine, and a stream is a socket to it, which
 * may break after some bytes. For tests of what stands above.
 */

#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "pool/backend/backend.h"
#include "prng.h"

struct box {
        struct sandbox sandbox;
        char path[128];
        uint8_t key[16];
        pid_t pid;
        uv_timer_t timer;
        void (*later)(struct box *b);
};

/* The test sets the first three before it makes a backend. */
extern struct boxes {
        uv_loop_t *loop;
        const char *program, *dir; /* the helper; where sockets are */
        struct prng dice;
        struct box *newest;
        int64_t bytes_each; /* of the next streams, at most; 0: they hold */
        unsigned n_streams;
} boxes;

struct backend *box_backend_new(void);
