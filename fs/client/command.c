/* SPDX-License-Identifier: MIT */
#include "fs/client/command.h"

#include "pool/util/text.h"

/*
 * exec takes a program, never a builtin of the shell, as env(1) does. But it would take a first word that begins with a
 * hyphen for an option, and not every shell lets -- end its options.
 */
int command_write(const char *const *words, bool login, struct buf *out) {
        int r = 0;

        if (!*words)
                return buf_printf(out, "exec \"$0\"%s", login ? " -l" : "");
        if (**words != '-')
                r = buf_printf(out, "exec ");
        for (; r == 0 && *words; words++) {
                r = text_quote(*words, out);
                if (r == 0 && words[1])
                        r = buf_append(out, " ", 1);
        }
        return r;
}
