/* SPDX-License-Identifier: MIT */
#pragma once

/* The terminal of the user: its size, and raw mode, in which every key goes to the job. */

#include <stdbool.h>
#include <termios.h>

struct terminal {
        bool is_ours; /* its mode was changed; */
        struct termios before;
};

/* "ROWS COLS" of the first standard stream that is a terminal, or 24 80. */
#define TERMINAL_SIZE_TEXT 16
void terminal_size(char text[static TERMINAL_SIZE_TEXT]);

/* Raw mode on standard input, if that is a terminal; and back. Both may be called at any time, and again. */
void terminal_make_raw(struct terminal *t);
void terminal_restore(const struct terminal *t);
