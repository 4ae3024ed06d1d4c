/* SPDX-License-Identifier: MIT */
#pragma once

/* The lines of a watcher, see watcher.h, until they are sent. */

#include <stdbool.h>
#include <stddef.h>

/* @from, @path: or NULL. Where there is no memory for a line it says so as an overflow. */
void line_put(const char *event, const char *from, const char *path, bool directory);

/* Bytes that are not sent yet. */
size_t line_pending(void);

/* Sends what the socket takes now. False: nobody reads it. */
bool line_send(int socket);

/* For tests: a string of JSON, with its quotes. Its length; @out has room for 6 times @in, and 3 more. */
size_t line_quote(const char *in, char *out);
