/* SPDX-License-Identifier: MIT */
#pragma once

/* Names that nobody else ever makes: random UUIDs (RFC 4122, version 4). */

#include <stdbool.h>

#define UUID_SIZE 37 /* bytes, with the final NUL */

/* 0, or -EIO when the kernel has no random bytes. */
int uuid_make(char out[UUID_SIZE]);

/* True for what looks like one. */
bool uuid_is(const char *s);
