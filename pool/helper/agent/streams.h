/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The helper's ends of a job's standard input and output.
 *
 * stdout and stderr are two pipes, and no system call tells which of two writes came first. So a pipe holds one packet
 * (O_DIRECT), and whoever writes another waits until the first is read. Then only the first packet of each pipe can be
 * in question, and epoll tells which became ready first. A stream that has written much by itself gets a larger pipe,
 * until the other one writes again. Where there are no pipes of packets the order is that in which they are read.
 */

#include <stdbool.h>

#include "pool/helper/agent/job.h"

/* Makes them; @job_ends are the job's 0, 1 and 2, for the caller to close. 0 or -errno, then nothing is open. */
int streams_open(struct job *j, int job_ends[3]);
void streams_close(struct job *j);

/* epoll has told of events. */
void stream_on_event(struct job *j, struct stream *s, uint32_t events);

/* Reads what there is and there is room for, in order. True: there is more, another time. */
bool streams_read(struct job *j);

/* All is read, and nobody can write any more. */
bool streams_at_end(const struct job *j);

/* Some of it waits for room. */
bool streams_wait(const struct job *j);

/* Writes to the job what there is and it takes. True when the limit has moved, or its end of input is closed. */
bool input_write(struct job *j);
void input_close(struct job *j);
