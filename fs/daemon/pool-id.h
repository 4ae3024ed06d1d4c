/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The pool's id, by which its sandboxes are found at the provider: the file "pool" in the state directory.
 *
 * It belongs to the machine and the path where it was made. The file says so, and says its own inode and time of birth,
 * which no copy of it has. The state directory of a cloned machine or of a baked image is thus known for a copy: two
 * daemons with one id would end each other's sandboxes. What the machine or the file system does not tell is not
 * compared.
 *
 * Not in the journal: when that is damaged, the id finds the sandboxes it knew of.
 */

#include "pool/util/uuid.h"

#define MACHINE_ID_SIZE 33 /* bytes, with the final NUL */

/* The id of this machine (machine-id(5)), or "" where it has none. */
void machine_id_read(char machine[MACHINE_ID_SIZE]);

/*
 * Read the id from the directory @dir, which lies at @path. -ENOENT: there is none; -EXDEV: it is a copy of @id;
 * -EUCLEAN: the file is no such file; or what else the disk says.
 */
int pool_id_read(int dir, const char *path, const char *machine, char id[UUID_SIZE]);

/* Make a new id, in the place of one that is there. 0 or -errno. */
int pool_id_make(int dir, const char *path, const char *machine, char id[UUID_SIZE]);
