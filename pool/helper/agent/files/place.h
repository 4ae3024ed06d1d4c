/* SPDX-License-Identifier: MIT */
#pragma once

/* Where a call's file is: from the names of directories to a descriptor, without following a link. */

#include <stdbool.h>

/* What all names begin at; a descriptor of O_PATH. Valid after place_init(). */
extern int place_root;
extern const char *place_root_path; /* "": that of the process */

/* @root: a directory, or "" for that of the process. 0 or -errno. */
int place_init(const char *root);

/*
 * The directory that is called @dir: an O_PATH descriptor, or -errno. @hidden: it is one of those that have nothing in
 * them, whatever there is: of proc, of devices and the like.
 */
int place_open(const char *dir, bool *hidden);

/*
 * The directory that @path leads to from the directory @dir, through links, which never lead out of the root. An O_PATH
 * descriptor, or -errno.
 */
int place_follow(const char *dir, const char *path);

/* The names from the root to an open directory, with a "/" before each; "" for the root. 0 or -errno. */
int place_name(int fd, char *out, int size);

/* Whether it can be the name of something in a directory. */
bool place_is_name(const char *name);
