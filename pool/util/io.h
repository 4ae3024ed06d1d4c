/* SPDX-License-Identifier: MIT */
#pragma once

/* Complete reads and writes of files, in spite of short counts and EINTR. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Whether @r, a -errno, is a temporary shortage on this machine, such as of descriptors or of room in a socket. */
bool is_shortage(int r);

/* Whether a descriptor is available now. If not, that may be why a library failed. */
bool descriptor_is_left(void);

/* All @len bytes at @offset, or -errno. */
int write_at(int fd, const void *data, size_t len, uint64_t offset);

/* The same at @end, where the file ends. On failure it ends there again, even if the disk took a part of them. */
int append_at(int fd, const void *data, size_t len, uint64_t end);

/* Up to @len bytes at @offset, less only at the file's end; or -errno. */
ssize_t read_at(int fd, void *data, size_t len, uint64_t offset);

/*
 * Remove everything in the directory @fd, whatever its modes, but not the
 * directory itself. Links are not followed. It is no error if others remove
 * files at the same time. 0 or -errno; -ELOOP for a tree deeper than 500.
 */
int remove_contents(int fd);

/* Remove @name in @dir, also a directory with its contents. 0, also if it does not exist, or -errno. */
int remove_tree(int dir, const char *name);

/* mkdir -p below @dir: make every missing part of the relative or absolute @path. 0 or -errno. */
int make_path(int dir, const char *path, mode_t mode);
