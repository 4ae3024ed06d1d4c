/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The live standard input of a job: the writing end of a pipe, and the bytes that the pipe did not take yet, EXEC_INPUT_MAX
 * at most.
 *
 *   open → ending → closed   by local_stdin_end(), as soon as all was written
 *   open → broken            nobody has the other end open any more
 */

#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

struct local_stdin;

/* Takes over @fd when it succeeds. @room: bytes were written, or it is broken. 0 or -errno. */
int local_stdin_new(struct local_stdin **out, uv_loop_t *loop, int fd, void (*room)(void *owner), void *owner);

/* What is not written yet is lost. NULL is fine. */
void local_stdin_free(struct local_stdin *s);

/* As exec_write(). */
ssize_t local_stdin_write(struct local_stdin *s, const void *data, size_t len);
void local_stdin_end(struct local_stdin *s);
