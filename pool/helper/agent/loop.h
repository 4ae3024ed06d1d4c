/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The helper's loop: descriptors and one signal, SIGCHLD. Events are given in the order in which they came about, as
 * epoll keeps it for edge-triggered descriptors: the order of a job's output is read from it.
 *
 * A source is embedded in its owner and may be told of an event after it was removed: its owner checks its state.
 */

#include <stdbool.h>
#include <stdint.h>

struct loop_source {
        void (*ready)(struct loop_source *source, uint32_t events); /* EPOLLIN and others */
};

int loop_init(void);
int loop_add(int fd, struct loop_source *source, uint32_t events);
int loop_change(int fd, struct loop_source *source, uint32_t events);
void loop_remove(int fd);

/* Waits until @until_us for events, and gives them. */
void loop_turn(int64_t until_us);
