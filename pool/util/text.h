/* SPDX-License-Identifier: MIT */
#pragma once

/* Reading and checking text that people write. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/util/buf.h"

/* True when @s is well-formed UTF-8 (RFC 3629). */
bool text_is_utf8(const char *s, size_t len);

/*
 * Text from outside (a server, a sandbox, another user) on its way to a log, a table, a terminal or `error`. The copy
 * in @out is UTF-8 on one line, and shows what it is: control characters and line separators become spaces; invisible
 * characters and those that turn the direction of writing become "?", as does each byte that belongs to no character.
 * It is cut at a character to less than @size bytes. @out may be @in: it never gets longer.
 */
void text_show(char *out, size_t size, const char *in, size_t len);

/* True when text_show() would change nothing. */
bool text_is_plain(const char *s, size_t len);

/* True for 1 to @max characters of A-Z a-z 0-9 _ and -, which is what ids of a provider consist of. */
bool text_is_id(const char *s, size_t max);

/* Whole-string parsers: 0, or -EINVAL for anything but what they say, -ERANGE when too large. */
int text_to_u64(const char *s, uint64_t *out);
int text_to_usec(const char *s, int64_t *out);  /* seconds, "180" or "0.5", up to 1e9; in microseconds */
int text_to_bytes(const char *s, uint64_t *out); /* "1048576", "64K", "20M", "1G" */
int text_to_bool(const char *s, bool *out);      /* yes no true false on off 1 0 */

/* A duration for people: "42s", "3m10s", "2h05m", "12d04h". Whole seconds, rounded down. Returns @out. */
#define TEXT_DURATION_SIZE 32
const char *text_from_usec(int64_t us, char out[static TEXT_DURATION_SIZE]);

/* A signal's number for "INT", "SIGINT" or "2"; -EINVAL for none. */
int text_to_signal(const char *s);

/* Whether the bytes can be the name of a shell's variable. */
bool text_is_variable(const char *s, size_t len);

/* Add @s to @out as one word for a shell, whatever bytes are in it. 0 or as buf_append. */
int text_quote(const char *s, struct buf *out);
