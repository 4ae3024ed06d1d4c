/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The removal of large files, a piece at a time.
 *
 * To free a file of a gigabyte takes the kernel a tenth of a second or more, and who removes it waits for that. So a
 * large file keeps its name until its turn comes, loses it, and is then cut shorter by a piece in each turn of the
 * loop. What is left of it at the end of the process is freed by the kernel, or is a file of nobody in the directory.
 */

#include <stdbool.h>
#include <stdint.h>

#define REMOVAL_PIECE (UINT64_C(16) << 20) /* bytes that are freed at a time */
#define REMOVALS_MAX 65536                 /* files that wait; more are removed at once */

/*
 * Remove the file @name, of about @size bytes, from the directory @dir, which must stay open until
 * removal_is_under_way() is false or removal_forget() is called. Nobody opens it any more; who has it open keeps all its bytes.
 */
void removal_add(int dir, const char *name, uint64_t size);

/* Free a piece. Call in each turn of the loop. */
void removal_tick(void);
bool removal_is_under_way(void);

/* Forget the files that wait: their directories go. */
void removal_forget(void);
