/* SPDX-License-Identifier: MIT */
#include "pool/base/option.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

static void *field(void *values, const struct option_row *o) {
        return (char *)values + o->offset;
}

static const void *const_field(const void *values, const struct option_row *o) {
        return (const char *)values + o->offset;
}

int option_invalid(const struct option_row *o, const char *value, const char *expected, struct result *why) {
        result_set(why, RESULT_INVALID, "option %s=%s: expected %s", o->name, o->secret ? "***" : value, expected);
        return -EINVAL;
}

int option_find_word(const char *const *words, const char *value) {
        for (int i = 0; words && words[i]; i++)
                if (!strcmp(words[i], value))
                        return i;
        return -1;
}

/* The words with @between between them. */
static void join_words(const struct option_row *o, const char *between, char *out, size_t size) {
        size_t len = 0;

        for (unsigned i = 0; o->words[i] && len < size; i++)
                len += snprintf(out + len, size - len, "%s%s", i ? between : "", o->words[i]);
}

static int not_a_word(const struct option_row *o, const char *value, struct result *why) {
        char expected[256] = "";

        join_words(o, " or ", expected, sizeof(expected));
        return option_invalid(o, value, expected, why);
}

int option_check_env(const char *lines, struct result *why) {
        for (const char *line = lines; *line;) {
                size_t len = strcspn(line, "\n"), key = strcspn(line, "=\n");

                if (len > 0 && (key == 0 || line[key] != '=')) {
                        result_set(why, RESULT_INVALID, "env: \"%.*s\" is not KEY=VALUE", (int)len, line);
                        return -EINVAL;
                }
                if (len > 0 && !text_is_variable(line, key)) {
                        result_set(why, RESULT_INVALID,
                                   "env: \"%.*s\" cannot be the name of a variable, which has letters, digits and _ "
                                   "only, and no digit first", (int)key, line);
                        return -EINVAL;
                }
                line += len + (line[len] == '\n');
        }
        return 0;
}

static int set_string(char **at, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*at);
        *at = copy;
        return 0;
}

static int add_env(char **at, const char *value) {
        char *joined;

        if (!*at || !**at)
                return set_string(at, value);
        if (asprintf(&joined, "%s\n%s", *at, value) < 0)
                return -ENOMEM;
        free(*at);
        *at = joined;
        return 0;
}

static bool is_path_part(const char *part, size_t len) {
        bool is_dots = strncmp(part, "..", len) == 0;

        return len > 0 && len <= NAME_MAX && !(is_dots && len <= 2);
}

/* Absolute, not "/", and without what could be left out. */
static bool is_plain_path(const char *path, size_t len) {
        const char *end = path + len, *slash;

        do {
                if (path == end || *path++ != '/')
                        return false;
                slash = memchr(path, '/', end - path);
                if (!is_path_part(path, (slash ?: end) - path))
                        return false;
                path = slash ?: end;
        } while (path < end);
        return true;
}

static bool are_paths(const char *value) {
        bool good = strlen(value) <= OPTION_PATHS_MAX;
        size_t len = 0;

        if (!*value)
                return true;
        do {
                value += len;
                len = strcspn(value, ":");
                good = good && is_plain_path(value, len);
        } while (value[len++]);
        return good;
}

int option_parse(const struct option_row *o, void *values, const char *value, bool add, struct result *why) {
        char expected[256];
        uint64_t number;
        int64_t usec;
        bool yes;
        int word;

        switch (o->type) {
        case OPTION_NUMBER:
        case OPTION_BYTES:
                if ((o->type == OPTION_NUMBER ? text_to_u64 : text_to_bytes)(value, &number) < 0 ||
                    number < o->least || number > o->most) {
                        snprintf(expected, sizeof(expected), "%s from %" PRIu64 " to %" PRIu64,
                                 o->type == OPTION_NUMBER ? "a whole number" : "bytes, such as 64M or 1G,",
                                 o->least, o->most);
                        return option_invalid(o, value, expected, why);
                }
                if (values)
                        *(uint64_t *)field(values, o) = number;
                return 0;
        case OPTION_SECONDS:
                if (text_to_usec(value, &usec) < 0 || usec < (int64_t)o->least) {
                        snprintf(expected, sizeof(expected), "seconds, such as 300 or 0.5");
                        if (o->least)
                                snprintf(expected, sizeof(expected), "seconds, at least %g",
                                         (double)o->least / USEC_PER_SEC);
                        return option_invalid(o, value, expected, why);
                }
                if (values)
                        *(int64_t *)field(values, o) = usec;
                return 0;
        case OPTION_BOOL:
                if (text_to_bool(value, &yes) < 0)
                        return option_invalid(o, value, "yes or no", why);
                if (values)
                        *(bool *)field(values, o) = yes;
                return 0;
        case OPTION_CHOICE:
                word = option_find_word(o->words, value);
                if (word < 0)
                        return not_a_word(o, value, why);
                if (values)
                        *(unsigned *)field(values, o) = word;
                return 0;
        case OPTION_PATHS:
                if (!are_paths(value)) {
                        snprintf(expected, sizeof(expected), "absolute paths in their shortest form, joined by a colon, in %d bytes",
                                 OPTION_PATHS_MAX);
                        return option_invalid(o, value, expected, why);
                }
                return values ? set_string(field(values, o), value) : 0;
        case OPTION_PATH:
        case OPTION_FILE:
                if (*value && *value != '/')
                        return option_invalid(o, value, "an absolute path", why);
                return values ? set_string(field(values, o), value) : 0;
        case OPTION_ENV:
                if (option_check_env(value, why) < 0)
                        return -EINVAL;
                if (!values)
                        return 0;
                return add ? add_env(field(values, o), value) : set_string(field(values, o), value);
        case OPTION_TEXT:
                if (o->words && option_find_word(o->words, value) < 0)
                        return not_a_word(o, value, why);
                return values ? set_string(field(values, o), value) : 0;
        }
        return -EINVAL;
}

int option_copy(const struct option_row *o, void *to, const void *from) {
        switch (o->type) {
        case OPTION_NUMBER:
        case OPTION_BYTES:
                *(uint64_t *)field(to, o) = *(const uint64_t *)const_field(from, o);
                return 0;
        case OPTION_SECONDS:
                *(int64_t *)field(to, o) = *(const int64_t *)const_field(from, o);
                return 0;
        case OPTION_BOOL:
                *(bool *)field(to, o) = *(const bool *)const_field(from, o);
                return 0;
        case OPTION_CHOICE:
                *(unsigned *)field(to, o) = *(const unsigned *)const_field(from, o);
                return 0;
        case OPTION_TEXT:
        case OPTION_PATH:
        case OPTION_FILE:
        case OPTION_PATHS:
        case OPTION_ENV:
                return set_string(field(to, o), *(char *const *)const_field(from, o));
        }
        return -EINVAL;
}

void option_free(const struct option_row *o, void *values) {
        switch (o->type) {
        case OPTION_TEXT:
        case OPTION_PATH:
        case OPTION_PATHS:
        case OPTION_FILE:
        case OPTION_ENV:
                if (o->secret && *(char **)field(values, o))
                        explicit_bzero(*(char **)field(values, o), strlen(*(char **)field(values, o)));
                free(*(char **)field(values, o));
                break;
        case OPTION_NUMBER:
        case OPTION_BYTES:
        case OPTION_SECONDS:
        case OPTION_BOOL:
        case OPTION_CHOICE:
                break;
        }
}

json_t *option_to_json(const struct option_row *o, const void *values) {
        const void *at = const_field(values, o);

        switch (o->type) {
        case OPTION_NUMBER:
        case OPTION_BYTES:
                return json_integer(*(const uint64_t *)at);
        case OPTION_SECONDS:
                if (*(const int64_t *)at % USEC_PER_SEC == 0)
                        return json_integer(*(const int64_t *)at / USEC_PER_SEC);
                return json_real((double)*(const int64_t *)at / USEC_PER_SEC);
        case OPTION_BOOL:
                return json_boolean(*(const bool *)at);
        case OPTION_CHOICE:
                return json_string(o->words[*(const unsigned *)at]);
        case OPTION_TEXT:
        case OPTION_PATH:
        case OPTION_PATHS:
        case OPTION_FILE:
        case OPTION_ENV:
                if (o->secret && **(char *const *)at)
                        return json_string("***");
                return json_string(*(char *const *)at);
        }
        return NULL;
}

const char *option_takes(const struct option_row *o, char out[static OPTION_TAKES_SIZE]) {
        static const char *const names[] = {
                [OPTION_NUMBER] = "N",  [OPTION_BYTES] = "BYTES", [OPTION_SECONDS] = "SECONDS", [OPTION_BOOL] = "yes|no",
                [OPTION_TEXT] = "TEXT", [OPTION_PATH] = "PATH", [OPTION_PATHS] = "PATH:PATH...",   [OPTION_FILE] = "FILE",       [OPTION_ENV] = "KEY=VALUE",
        };

        if (o->words)
                join_words(o, "|", out, OPTION_TAKES_SIZE);
        else
                snprintf(out, OPTION_TAKES_SIZE, "%s", names[o->type]);
        return out;
}
