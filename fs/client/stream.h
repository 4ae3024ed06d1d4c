/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bytes on their way from one descriptor to another, which both belong to the caller.
 *
 *   reading   nothing is kept; more is awaited from the one
 *   writing   the other has to take what is kept
 *   ended     the one has no more, or the other takes no more
 *
 * The loop polls what stream_wants() names, and calls stream_move() when it is ready. Neither ever waits.
 */

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

struct stream {
        int from, to;
        char *data; /* len bytes from start on are kept */
        size_t start, len;
        bool ended;
        int read_error, write_error; /* -errno, once it has ended by one */
};

int stream_init(struct stream *s, int from, int to); /* 0 or -ENOMEM */
void stream_deinit(struct stream *s);

/* For poll(2); nothing once it has ended. */
struct pollfd stream_wants(const struct stream *s);

/* Either read or write, once. */
void stream_move(struct stream *s);
