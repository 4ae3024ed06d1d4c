/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The pool's id, by which its sandboxes are found at the provider: the file "pool" in the state directory.
 *
 * The id belongs to the machine and the path where it was made. The file records both, and its own inode and creation
 * time, which a copy does not share. So a state directory that was copied with a machine or an image is recognized: two
 * daemons with one id would end each other's sandboxes. What the machine or the file system does not provide is not
 * compared.
 *
 * The id is not in the journal, because it is needed to find the sandboxes of a damaged journal.
 */

#include "pool/util/uuid.h"

#define MACHINE_ID_SIZE 33 /* bytes, with the final NUL */

/* The id of this machine (machine-id(5)), or "" if it has none. */
void machine_id_read(char machine[MACHINE_ID_SIZE]);

/*
 * Read the id from the directory @dir at @path. -ENOENT: there is none; -EXDEV: the directory is a copy, and @id is the
 * original's; -EUCLEAN: the file has another form; or another error of the disk.
 */
int pool_id_read(int dir, const char *path, const char *machine, char id[UUID_SIZE]);

/* Make a new id, and replace the old one if there is one. 0 or -errno. */
int pool_id_make(int dir, const char *path, const char *machine, char id[UUID_SIZE]);
