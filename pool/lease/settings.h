/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is set before a command: cwd, timeout, env, user, terminal and standard input.
 *
 * A lease has settings, and every job has its own. A job of `cmd` takes over those of its lease when it is submitted, a
 * job with a name when it is made; only that one's can still be changed, until it is submitted.
 */

#include <stdint.h>

#include "pool/util/blob.h"
#include "pool/util/buf.h"

enum lease_setting {
        SETTING_CWD,
        SETTING_TIMEOUT,
        SETTING_ENV,
        SETTING_USER,
        SETTING_TERMINAL, /* of jobs with a name alone */
        SETTING_N,
};

/* All of them but input. */
struct setting_values {
        const char *cwd, *env;
        int64_t timeout_us;
        const char *user;
        uint16_t rows, columns;
};

struct settings {
        char *cwd;          /* absolute, or relative to the workdir; "": the workdir */
        char *env;          /* lines KEY=VALUE */
        char *user;         /* a name or a number in the environment; NULL: its own */
        int64_t timeout_us; /* 0: none */
        uint16_t rows, columns; /* of the terminal; 0: none */
        struct blob input;
        int64_t set_wall_us[SETTING_N], input_wall_us; /* wall time of the last change of each */
};

/* Empty. Input has its files in @dir and is charged to @account; both are borrowed, and @account may come later. */
void settings_init(struct settings *s, int dir, struct quota_account *account);
void settings_deinit(struct settings *s);

/* Set all but input to copies of @values, at that wall time. 0 or -ENOMEM. */
int settings_set(struct settings *s, const struct setting_values *values, int64_t wall_us);

/* They are borrowed. */
struct setting_values settings_values(const struct settings *s);
