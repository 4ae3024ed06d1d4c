/* SPDX-License-Identifier: MIT */
#pragma once

/* What is written to a job's cmd. */

#include <stdbool.h>

#include "pool/util/buf.h"

/*
 * Append the command that runs @words exactly as they are, up to a NULL, in place of the job's shell. Without words it
 * becomes a shell of the same kind, a login shell with @login. Returns as buf_append() does.
 */
int command_write(const char *const *words, bool login, struct buf *out);
