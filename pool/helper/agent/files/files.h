/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Calls about files, in the helper's own process. It does none of them: a slow disk, or a file system that a job has
 * mounted and that never answers, must not hold up jobs. It gives them to a process of its own (server.h), one at a time
 * in their order, through memory that both share. That process is started by the first call, and killed by a clean-up
 * and by a new epoch.
 *
 * The states of a call stand in protocol.h.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/helper/protocol.h"

/* @root: what is served; borrowed for good. */
void files_init(const char *root);

/* A CALL. NULL, or what is wrong with it. */
const char *files_take(const struct frame *f);

/* There is a new carrier. */
void files_new_carrier(void);

/* The next ANSWER. False when there is none. Its data is good until the next call of anything here. */
bool files_next_answer(struct frame *f);

/* Closes all files, and forgets all calls. */
void files_end(void);
