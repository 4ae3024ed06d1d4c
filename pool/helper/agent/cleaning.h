/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Requests that are done once, by a cleaner, a process of its own. See protocol.h for how they are asked for again.
 * There is one of each kind. At most one is RUNNING, and a CLEAN goes before a NOTE.
 *
 *   state     on                                    to        does
 *   -------   -----------------------------------   -------   ------------------------------------------------
 *   IDLE      REQUEST                               WAITING
 *   WAITING   no cleaner runs                       RUNNING   starts one
 *   RUNNING   the cleaner has reported, or died     DONE      → REPLY, if this carrier has asked
 *   RUNNING   REQUEST of another number             RUNNING   goes back to WAITING when the cleaner has ended
 *   RUNNING   a CLEAN waits, this one is a NOTE     DONE      kills the cleaner; → REPLY: ECANCELED
 *   DONE      REQUEST of that number                DONE      → REPLY
 *   DONE      REQUEST of another number             WAITING
 *   any       REQUEST of that number                same      from now on, this carrier has asked
 *   any       a new carrier                         same      it has not asked
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
