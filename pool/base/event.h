/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The newest state changes, one JSON line each, for .pool/events.
 *
 * A ring keeps the newest lines, @max of them. Readers hold the number of a line,
 * not a pointer, and learn how many lines they missed.
 */

#include <stddef.h>
#include <stdint.h>

#include "pool/util/buf.h"
#include "pool/util/list.h"

struct event_ring;

/* @max: a power of two. 0 or -ENOMEM. */
int event_ring_new(struct event_ring **out, unsigned max);
void event_ring_free(struct event_ring *ring);

/* The watches that are told of each new line. */
struct list *event_ring_watches(struct event_ring *ring);

/*
 * Add {"time":…,"KIND":"NAME","state":"STATE","lease":…,"reason":…}; @lease and
 * @reason may be NULL; @kind and @state are literals. text_show() makes the
 * texts safe to print. Without memory the line is dropped: nothing depends on
 * events. Returns the time, in microseconds of wall time, in any case.
 */
int64_t event_emit(struct event_ring *ring, const char *kind, const char *name, const char *state,
                   const char *lease, const char *reason);

/* The number of the oldest line, and the number that the next line will have. */
uint64_t event_oldest(const struct event_ring *ring);
uint64_t event_next(const struct event_ring *ring);

/* Wall time of the newest line, in microseconds; 0 without lines. */
int64_t event_last_wall_us(const struct event_ring *ring);

/*
 * Line @number with its newline, or NULL if there is no such line or no memory for it. Valid until the next call.
 */
const char *event_line(struct event_ring *ring, uint64_t number);

/*
 * Append to @out as many lines as fit, beginning with number *@next, and move *@next behind them. {"missed":N} stands
 * for lines that are no longer kept, or for which there was no memory. 0 or -errno.
 */
int event_read(struct event_ring *ring, uint64_t *next, struct buf *out);
