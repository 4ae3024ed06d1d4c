/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What became of something that a user or a remote asked for.
 *
 * Functions return 0 or -errno for failures of this machine (memory, files).
 * Where the reason matters to a person, they fill in a result: a code, which
 * fs/errno.c turns into the one errno for that cause, and a sentence that
 * says what was being done, to what, what the other side said, what to do.
 */

#include <stdbool.h>

#define RESULT_TEXT_MAX 512 /* bytes, with the final NUL; longer text is cut */

enum result_code {
        RESULT_OK,
        RESULT_TIMEOUT,  /* waited too long */
        RESULT_DENIED,   /* credentials refused */
        RESULT_INVALID,  /* request or configuration refused; the same again will fail again */
        RESULT_LOST,     /* the environment is gone */
        RESULT_RELEASED, /* the lease is gone */
        RESULT_BUSY,     /* try later */
        RESULT_FAILED,   /* everything else; trying again may help */
};

struct result {
        enum result_code code;
        char text[RESULT_TEXT_MAX]; /* one line, printable, no newline */
};

/* Set code and text, which text_show() makes one printable line; spaces at its end are cut off. */
void result_set(struct result *r, enum result_code code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static inline bool result_ok(const struct result *r) {
        return r->code == RESULT_OK;
}

/* The code's name as the event log and status files print it, "timeout". */
const char *result_code_name(enum result_code code);
