/* SPDX-License-Identifier: MIT */
#pragma once

/* Files that take commands, one per line, and run each when it is written, so that write can report errors. */

#include "fs/handle.h"

int lines_open(struct handle *h);

/* As file_ops.write and flush; @run runs one line. The bytes after the last newline are a line once the file is closed. */
ssize_t lines_write(struct handle *h, const char *data, size_t len, int (*run)(struct handle *h, const char *line));
int lines_flush(struct handle *h, int (*run)(struct handle *h, const char *line));
