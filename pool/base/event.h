/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The newest state changes, one JSON line each, behind .pool/events.
 *
 * A ring: line N is kept until EVENTS_MAX newer ones came. Readers hold a
 * number, not a pointer, and learn how many lines they missed.
 */

#include <stddef.h>
#include <stdint.h>

#include "pool/util/buf.h"
#include "pool/util/list.h"

struct event_ring;

int event_ring_new(struct event_ring **out);
void event_ring_free(struct event_ring *ring);

/* Told of each new line. */
struct list *event_ring_watches(struct event_ring *ring);

/*
 * Add {"time":…,"KIND":"NAME","state":"STATE","lease":…,"reason":…}; @lease and
 * @reason may be NULL, @kind and @state are literals. Out of memory drops the
 * line: events inform, nothing depends on them. Of texts a line has what text_show() makes of them.
 * The time, which is wall time in microseconds, is returned in any case.
 */
int64_t event_emit(struct event_ring *ring, const char *kind, const char *name, const char *state,
                   const char *lease, const char *reason);

/* The oldest line's number, and the number the next one will have. */
uint64_t event_oldest(const struct event_ring *ring);
uint64_t event_next(const struct event_ring *ring);

/* Wall time of the newest line, in microseconds; 0: there is none. */
int64_t event_last_wall_us(const struct event_ring *ring);

/*
 * Line @number, with its newline; NULL when it is not there, or there is no memory for it. Good until another one is
 * asked for.
 */
const char *event_line(struct event_ring *ring, uint64_t number);

/*
 * Append to @out the lines from number *@next on, as many as fit, and move *@next behind them. {"missed":N} stands for
 * lines that are not kept any more, or for which there was no memory. 0 or -errno.
 */
int event_read(struct event_ring *ring, uint64_t *next, struct buf *out);
