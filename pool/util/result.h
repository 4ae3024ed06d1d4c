/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The result of something that a user asked for, or that a remote answered.
 *
 * Functions return 0 or -errno for failures of this machine (memory, files).
 * If the reason matters to a person, they fill in a result: a code, which
 * fs/errno.c maps to one errno, and a sentence. The sentence says what was
 * being done, to what, what the other side said, and what to do.
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
        RESULT_CANCELLED, /* it never began, and never will: the journal keeps these numbers, so a new one comes last */
};

struct result {
        enum result_code code;
        char text[RESULT_TEXT_MAX]; /* one line, printable, no newline */
};

/* Set code and text. text_show() makes the text one printable line; final spaces are removed. */
void result_set(struct result *r, enum result_code code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static inline bool result_ok(const struct result *r) {
        return r->code == RESULT_OK;
}

/* A result that is kept for later, without room for a text that most do not have. */
struct saved_result {
        enum result_code code;
        char *text; /* its own; NULL: it has none, or there was no memory for it */
};

/* What was saved before is dropped. */
void result_save(struct saved_result *s, const struct result *r);
struct result result_saved(const struct saved_result *s);
void result_drop(struct saved_result *s);

/* The code's name as events and status files print it, such as "timeout". */
const char *result_code_name(enum result_code code);
