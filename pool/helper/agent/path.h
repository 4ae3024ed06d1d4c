/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Paths in a sandbox where jobs may have put anything. A link on the way is followed only where it is older than the
 * helper: the time of its last change cannot be set back.
 */

#include <stdbool.h>
#include <stddef.h>

/* Brings an absolute path into its shortest form. False where it is not absolute, is "/", or has a part "..". */
bool path_normalise(char *path);

/* In that form, and not "/": whether @path is @above, or in it. */
bool path_is_within(const char *path, const char *above);

/* Of a path in that form: an O_PATH descriptor of a directory, or -errno. @make: makes parts that are not there. */
int path_open(const char *path, bool make);

/* The same of the directory that @path is in; *@name is its last part, within @path. */
int path_open_parent(const char *path, bool make, const char **name);

/* The path of an open directory, without links. 0 or -errno. */
int path_of(int fd, char *out, size_t size);
