/* SPDX-License-Identifier: MIT */
#pragma once

/* Checking, parsing and printing text. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/util/buf.h"

/* True when @s is well-formed UTF-8 (RFC 3629). */
bool text_is_utf8(const char *s, size_t len);

/*
 * Make text from outside (a server, a sandbox, another user) safe for a log, a table, a terminal or `error`. The copy
 * in @out is UTF-8 on one line. Control characters and line separators become spaces. Invisible characters, characters
 * that change the direction of writing, and bytes that are not UTF-8 become "?". The copy is cut between characters to
 * less than @size bytes. @out may be @in: the text never gets longer.
 */
void text_show(char *out, size_t size, const char *in, size_t len);

/* True when text_show() would change nothing. */
bool text_is_plain(const char *s, size_t len);

/* True for 1 to @max of the characters A-Z a-z 0-9 _ and -, as in ids of a provider. */
bool text_is_id(const char *s, size_t max);

/* Parsers of whole strings: 0, -EINVAL for any other form, -ERANGE for too large a value. */
int text_to_u64(const char *s, uint64_t *out);
int text_to_usec(const char *s, int64_t *out);  /* seconds, "180" or "0.5", up to 1e9; in microseconds */
int text_to_bytes(const char *s, uint64_t *out); /* "1048576", "64K", "20M", "1G" */
int text_to_bool(const char *s, bool *out);      /* yes no true false on off 1 0 */
int text_to_size(const char *s, uint16_t *rows, uint16_t *columns); /* of a terminal: "24 80"; neither is 0 */

/* A duration for people: "42s", "3m10s", "2h05m", "12d04h". Whole seconds, rounded down. Returns @out. */
#define TEXT_DURATION_SIZE 32
const char *text_from_usec(int64_t us, char out[static TEXT_DURATION_SIZE]);

/* A signal's number for "INT", "SIGINT" or "2"; -EINVAL for none. */
int text_to_signal(const char *s);

/* Whether the bytes are a valid name of a shell variable. */
bool text_is_variable(const char *s, size_t len);

/* Append @s to @out as one quoted word for a shell, whatever its bytes. Returns as buf_append() does. */
int text_quote(const char *s, struct buf *out);
