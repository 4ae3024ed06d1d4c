/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A reader of TOML 1.0, as far as ~/.modal.toml goes: tables of keys with
 * strings and booleans. Whatever else the language has (numbers, dates, arrays,
 * inline tables, nested tables) is read past; what is no TOML is an error with
 * its line. Input is a whole file in memory.
 */

#include <stdbool.h>
#include <stddef.h>

#include "pool/util/result.h"

enum toml_type {
        TOML_STRING,
        TOML_BOOL,
        TOML_OTHER, /* text as written */
};

/*
 * Called for each key, in order. @table and @key are parts joined by a dot;
 * "" is the table at the top. -errno stops the reading.
 */
typedef int toml_take_fn(void *owner, const char *table, const char *key, enum toml_type type, const char *value);

/* 0; -EINVAL with @why, "line 3: …"; -ENOMEM; or what @take said. */
int toml_read(const char *text, size_t len, toml_take_fn *take, void *owner, struct result *why);
