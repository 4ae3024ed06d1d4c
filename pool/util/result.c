/* SPDX-License-Identifier: MIT */
#include "pool/util/result.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pool/util/text.h"

void result_set(struct result *r, enum result_code code, const char *format, ...) {
        char text[RESULT_TEXT_MAX];
        va_list ap;

        /* Into a local first, because the old text may be an argument. */
        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);

        text_show(text, sizeof(text), text, strlen(text));
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
        case RESULT_CANCELLED:
                return "cancelled";
        }
        return "unknown";
}
