/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Options as tables: who has options declares a table of them, with a row for each.
 *
 * The core has one table, the daemon one, and each backend one or two. A table's owner also declares a struct, into
 * which the rows point by their offsets; config.h keeps one for each table, and its owner reads its own values there.
 * config.h, the command line, the help, .pool/config and the completion know no option but from its row.
 *
 * A text value is never NULL. It belongs to the struct and goes with option_free().
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/util/result.h"

enum option_type {      /* the field of the struct is */
        OPTION_NUMBER,  /* uint64_t */
        OPTION_BYTES,   /* uint64_t */
        OPTION_SECONDS, /* int64_t, in microseconds */
        OPTION_BOOL,    /* bool */
        OPTION_CHOICE,  /* unsigned: which of the row's words */
        OPTION_TEXT,    /* char *, as all that follow */
        OPTION_PATH,    /* absolute, inside an environment; or "" */
        OPTION_PATHS,   /* any number of such paths but "/", in their shortest form, joined by ":" */
        OPTION_FILE,    /* absolute, of this machine; or "" */
        OPTION_ENV,     /* lines KEY=VALUE; repeated values add up */
};

/* Who may set it, where a mount has several pools. Each may also set what the ones below may. */
enum option_scope {
        OPTION_OF_MOUNT,  /* the daemon's user, for the whole mount: files of this machine, servers, credentials, isolation, … */
        OPTION_OF_DAEMON, /* the daemon's user, for each pool: what costs, or reaches further than a sandbox */
        OPTION_OF_OWNER,  /* the owner of a pool, for that pool */
};

struct option_row {
        const char *name;
        enum option_type type;
        size_t offset;                /* of the value in the table's struct */
        const char *initial;          /* the default; "" for none */
        const char *const *variables; /* of the process environment; the first that is set counts */
        uint64_t least, most;         /* of a number, or of bytes; of seconds the least, in microseconds */
        const char *const *words;     /* of a choice, or of a text that is one of these */
        const char *const *foreign;   /* values of the variables that only Hermes-Agent, whose names they are, knows */
        enum option_scope scope;
        bool secret; /* shown as "***"; one that has a variable is refused on the command line */
        bool live;   /* may change while mounted: of the core's only, and none that is text, as struct config is then copied */
        const char *help;
};

struct option_table {
        const char *of; /* whose they are, for the help: "modal"; NULL: everybody's */
        const struct option_row *rows;
        size_t n_rows;
        size_t size; /* of the struct */
};

#define OPTION_WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define OPTION_TABLE(type, owner, list)                                                                              \
        { .of = (owner), .rows = (list), .n_rows = sizeof(list) / sizeof((list)[0]), .size = sizeof(type) }

/* The number of @value among @words, which may be NULL; -1: it is none of them. */
int option_find_word(const char *const *words, const char *value);

/*
 * Check @value; store it in the struct unless that is NULL. @add: to what is there, where the type adds up. -EINVAL with
 * @why: it names the option, the value, and what would be right. -ENOMEM.
 */
int option_parse(const struct option_row *o, void *values, const char *value, bool add, struct result *why);

/* -EINVAL, with the sentence that "option NAME=VALUE: expected ..." is. */
int option_invalid(const struct option_row *o, const char *value, const char *expected, struct result *why);

/* Copy its value from one struct to another. 0 or -ENOMEM. */
int option_copy(const struct option_row *o, void *to, const void *from);

/* Its memory, if it has any. */
void option_free(const struct option_row *o, void *values);

/* The value as JSON, a secret as "***". NULL: no memory, or no text. */
json_t *option_to_json(const struct option_row *o, const void *values);

/* What it takes, in one word: "N", "SECONDS", "yes|no". Returns @out. */
#define OPTION_TAKES_SIZE 80
const char *option_takes(const struct option_row *o, char out[static OPTION_TAKES_SIZE]);

/* Lines KEY=VALUE: -EINVAL with @why for a line that is none. */
int option_check_env(const char *lines, struct result *why);
