/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The helper's channels: a table of fixed size. Their states stand in protocol.h. Each has a buffer for each direction, the
 * only memory that the helper allocates; where there is none, that channel fails.
 *
 * Nothing here knows a carrier. One that is there gives frames and takes frames.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/helper/protocol.h"

/* A frame from the daemon, of a type that is about a channel. NULL, or what is wrong with it. */
const char *channels_take(const struct frame *f);

/* There is a new carrier, and perhaps a new daemon. */
void channels_new_carrier(bool is_new_epoch);

/* The next frame to send; false when there is none. Its data is good until the next call of anything here. */
bool channels_next(struct frame *f);

/* A clean-up begins: whatever they lead to is ended. */
void channels_end_all(void);

/* Does what is due. Returns when to call it again. */
int64_t channels_tick(void);
