/* SPDX-License-Identifier: MIT */
#pragma once

/* Unique names: random UUIDs (RFC 4122, version 4). */

#include <stdbool.h>

#define UUID_SIZE 37 /* bytes, with the final NUL */

/* 0, or -EIO when the kernel has no random bytes. */
int uuid_make(char out[UUID_SIZE]);

/* Whether the string has the form of a UUID. */
bool uuid_is(const char *s);

/* The 16 bytes of a string that is a UUID. */
void uuid_bytes(const char *s, unsigned char out[16]);
