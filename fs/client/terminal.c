/* SPDX-License-Identifier: MIT */
#include "fs/client/terminal.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

void terminal_size(char text[static TERMINAL_SIZE_TEXT]) {
        struct winsize size = {};

        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
                        break;
        if (size.ws_row == 0 || size.ws_col == 0)
                size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
        snprintf(text, TERMINAL_SIZE_TEXT, "%u %u", size.ws_row, size.ws_col);
}

void terminal_make_raw(struct terminal *t) {
        struct termios raw;

        t->is_ours = t->is_ours || tcgetattr(STDIN_FILENO, &t->before) == 0;
        if (!t->is_ours)
                return;
        raw = t->before;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/* In the background the terminal belongs to another program, which has set its own mode. */
void terminal_restore(const struct terminal *t) {
        if (t->is_ours && tcgetpgrp(STDIN_FILENO) == getpgrp())
                tcsetattr(STDIN_FILENO, TCSANOW, &t->before);
}
