/* SPDX-License-Identifier: MIT */
#pragma once

/* Whole reads and writes of files: short counts and EINTR are dealt with here. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Whether @r, a -errno, says that this machine lacks for a while what others have: descriptors, room in a socket. */
bool is_shortage(int r);

/* Whether a descriptor could be had now: what failed inside a library may have failed for that. */
bool descriptor_is_left(void);

/* All @len bytes at @offset, or -errno. */
int write_at(int fd, const void *data, size_t len, uint64_t offset);

/* Up to @len bytes at @offset, less only at the file's end; or -errno. */
ssize_t read_at(int fd, void *data, size_t len, uint64_t offset);

/*
 * Remove everything in the directory @fd, whatever its modes; the directory
 * stays. Links are not followed. What others remove meanwhile is as good as
 * removed. 0 or -errno; -ELOOP for a tree deeper than 500.
 */
int remove_contents(int fd);

/* Remove @name in @dir, a directory with all it holds or anything else. 0, also when it is not there, or -errno. */
int remove_tree(int dir, const char *name);

/* mkdir -p below @dir: every missing part of the relative or absolute @path. 0 or -errno. */
int make_path(int dir, const char *path, mode_t mode);
