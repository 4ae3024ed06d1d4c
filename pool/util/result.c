/* SPDX-License-Identifier: MIT */
#include "pool/util/result.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

void result_save(struct saved_result *s, const struct result *r) {
        result_drop(s);
        s->code = r->code;
        s->text = *r->text ? strdup(r->text) : NULL;
}

struct result result_saved(const struct saved_result *s) {
        struct result r = { .code = s->code };

        snprintf(r.text, sizeof(r.text), "%s", s->text ?: s->code == RESULT_OK ? "" : "out of memory");
        return r;
}

void result_drop(struct saved_result *s) {
        free(s->text);
        *s = (struct saved_result){};
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
