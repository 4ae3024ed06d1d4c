/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/resume-token.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "pool/backend/backend.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/rpc/endpoint.h"
#include "pool/util/text.h"

#define VERSION "2"
#define VERSION_WITHOUT_TOKEN "1"
#define NO_TOKEN "-"
#define DIGITS "0123456789"

_Static_assert(PROBE_SIZE_MAX + SANDBOX_TOKEN_MAX + 2 * SANDBOX_ID_MAX + 64 <= SANDBOX_RESUME_TOKEN_MAX, "a resume token has no room");

static bool is_sound(const struct modal_resume_token *t) {
        size_t len = strlen(t->kept);

        return text_is_id(t->id, SANDBOX_ID_MAX - 1) && text_is_id(t->task_id, SANDBOX_ID_MAX - 1) &&
               strlen(t->sandbox_token) <= SANDBOX_TOKEN_MAX && modal_metadata_is_value(t->sandbox_token) &&
               t->began_wall_us > 0 && t->lifetime_secs > 0 && t->lifetime_secs <= MODAL_LIFETIME_MAX &&
               len <= PROBE_SIZE_MAX && strspn(t->kept, DIGITS ": ") == len;
}

int modal_resume_token_make(const struct modal_resume_token *t, char **out) {
        char *text;

        if (!is_sound(t))
                return -EINVAL;
        if (asprintf(&text, VERSION " %s %s %" PRId64 " %" PRIu32 " %s %s", t->id, t->task_id, t->began_wall_us,
                     t->lifetime_secs, *t->sandbox_token ? t->sandbox_token : NO_TOKEN, t->kept) < 0)
                return -ENOMEM;
        *out = text;
        return 0;
}

/* The text up to the next blank, which is cut off and left behind. */
static char *word(char **text) {
        char *begin = *text;

        *text += strcspn(begin, " ");
        if (**text)
                *(*text)++ = '\0';
        return begin;
}

int modal_resume_token_read(char *text, struct modal_resume_token *out) {
        const char *version = word(&text);
        struct modal_resume_token t = { .id = word(&text), .task_id = word(&text) };
        const char *began = word(&text), *lifetime = word(&text);
        bool with_token = !strcmp(version, VERSION);
        const char *token = with_token ? word(&text) : NO_TOKEN;
        uint64_t began_us, secs;

        if ((!with_token && strcmp(version, VERSION_WITHOUT_TOKEN)) || !*token || text_to_u64(began, &began_us) < 0 || text_to_u64(lifetime, &secs) < 0 ||
            began_us > INT64_MAX || secs > MODAL_LIFETIME_MAX)
                return -EINVAL;
        t.began_wall_us = began_us;
        t.lifetime_secs = secs;
        t.sandbox_token = strcmp(token, NO_TOKEN) ? token : "";
        t.kept = text;
        if (!is_sound(&t))
                return -EINVAL;
        *out = t;
        return 0;
}
