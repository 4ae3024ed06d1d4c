/* SPDX-License-Identifier: MIT */
#include "pool/util/result.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pool/util/text.h"

void result_set(struct result *r, enum result_code code, const char *format, ...) {
        char text[RESULT_TEXT_MAX];
        bool utf8;
        va_list ap;

        /* By way of a local, so that the old text may be an argument. */
        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);

        /* What a remote or a user wrote may be no text at all, or have been cut in the middle of a character. */
        utf8 = text_is_utf8(text, strlen(text));
        for (char *c = text; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        *c = ' ';
                else if ((unsigned char)*c >= 0x80 && !utf8)
                        *c = '?';
        for (size_t n = strlen(text); n > 0 && text[n - 1] == ' '; n--)
                text[n - 1] = '\0';

        r->code = code;
        memcpy(r->text, text, sizeof(text));
}

const char *result_code_name(enum result_code code) {
        switch (code) {
        case RESULT_OK:
                return "ok";
        case RESULT_TIMEOUT:
                return "timeout";
        case RESULT_DENIED:
                return "denied";
        case RESULT_INVALID:
                return "invalid";
        case RESULT_LOST:
                return "lost";
        case RESULT_RELEASED:
                return "released";
        case RESULT_BUSY:
                return "busy";
        case RESULT_FAILED:
                return "failed";
        }
        return "unknown";
}
