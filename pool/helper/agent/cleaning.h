/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Requests that are done once, by a cleaner, a process of its own. See protocol.h for how they are asked for again.
 *
 *   state     on                                    to        does
 *   -------   -----------------------------------   -------   ------------------------------------------
 *   IDLE      REQUEST                               RUNNING   starts a cleaner
 *   RUNNING   REQUEST of that number                RUNNING   nothing: this carrier is told, too
 *   RUNNING   REQUEST of another number             RUNNING   begins with that one when the cleaner has ended
 *   RUNNING   the cleaner has reported, or died     DONE      → REPLY, if this carrier has asked
 *   DONE      REQUEST of that number                DONE      → REPLY
 *   DONE      REQUEST of another number             RUNNING   starts a cleaner
 *   any       a new carrier                         same      nothing, until it asks
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/helper/protocol.h"

/* A REQUEST of one of these kinds. NULL, or what is wrong with it. */
const char *cleaning_take(const struct frame *f, uint64_t epoch);

/* There is a new carrier. */
void cleaning_new_carrier(void);

/* The next REPLY. False when there is none. Its data is good until the next call of anything here. */
bool cleaning_next_reply(struct frame *f);
