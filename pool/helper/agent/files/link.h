/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/*
 * Where the link @name in @dir, open as @fd, leads to, in a form that needs no look at other links: one that begins with
 * "/" counts from the root, and in any other, names come only behind all "..". The length of @out, or -errno.
 */
int file_readlink(int fd, const char *dir, const char *name, char *out, size_t size);
