/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Removing large files a piece at a time.
 *
 * Freeing a file of a gigabyte takes the kernel a tenth of a second or more, and unlink() waits for that. So large
 * files are queued. The first in the queue is unlinked while it is open, and then truncated by one piece in each turn
 * of the loop. When the process ends, the kernel frees the rest of that file; queued files stay in the directory, and
 * belong to no job.
 */

#include <stdbool.h>
#include <stdint.h>

#define REMOVAL_PIECE (UINT64_C(16) << 20) /* bytes that are freed at a time */
#define REMOVALS_MAX 65536                 /* queued files; further ones are removed at once */

/*
 * Remove the file @name, of about @size bytes, from the directory @dir, which must stay open until
 * removal_is_under_way() is false or removal_forget() is called. The file must not be opened again. It is not truncated
 * while somebody has it open.
 */
void removal_add(int dir, const char *name, uint64_t size);

/* Free a piece. Call in each turn of the loop. */
void removal_tick(void);
bool removal_is_under_way(void);

/* Forget the queued files, because their directories are about to be closed. */
void removal_forget(void);
