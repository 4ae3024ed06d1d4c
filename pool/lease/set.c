/* SPDX-License-Identifier: MIT */
#include "pool/lease/set.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

/* A macro, for it is const as the lease and the job are. */
#define SETTINGS_OF(l, j) ((j) ? &(j)->settings : &(l)->settings)

/* Whether they may be set. */
static int check_writable(const struct lease *l, const struct job *j) {
        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        return job_is_submitted(j) ? -EBUSY : 0;
}

static int parse_timeout(const struct lease *l, const char *text, int64_t *out) {
        if (!*text) {
                *out = l->table->config->timeout_us;
                return 0;
        }
        return text_to_usec(text, out);
}

/* "24 80"; nothing is none. */
static int parse_terminal(const char *text, uint16_t *rows, uint16_t *columns) {
        *rows = *columns = 0;
        return *text ? text_to_size(text, rows, columns) : 0;
}

/* What only the helper can do. */
static int check_helper(struct lease *l, const char *what, const char *who) {
        if (lease_has_helper(l))
                return 0;
        lease_remark(l, "%s: refused: " NEEDS_HELPER, what, who, lease_environment(l));
        return -EOPNOTSUPP;
}

/* A name or a number as passwd(5) has them; nothing is the environment's own user. */
static int check_user(struct lease *l, const char *text) {
        const char *why = lease_one_user(l);

        if (strlen(text) > USER_NAME_MAX || *text == '-' ||
            strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") < strlen(text)) {
                lease_remark(l, "user: \"%s\": expected the name or the number of a user, or nothing", text);
                return -EINVAL;
        }
        if (!*text || check_helper(l, "user", "another user") < 0)
                return *text ? -EOPNOTSUPP : 0;
        if (why) {
                lease_remark(l, "user: refused: environment %s has one user: %s", lease_environment(l), why);
                return -EOPNOTSUPP;
        }
        return 0;
}

static int check_terminal(struct lease *l, const char *text) {
        uint16_t rows, columns;

        if (parse_terminal(text, &rows, &columns) < 0) {
                lease_remark(l, "terminal: \"%s\": expected rows and columns, such as 24 80, or nothing", text);
                return -EINVAL;
        }
        return rows ? check_helper(l, "terminal", "a terminal") : 0;
}

int lease_check_setting(struct lease *l, struct job *j, enum lease_setting setting, const char *text) {
        struct result why;
        int64_t usec;
        int r = check_writable(l, j);

        if (r < 0)
                return r;
        switch (setting) {
        case SETTING_CWD:
                if (strchr(text, '\n')) {
                        lease_remark(l, "cwd: \"%s\": expected one line, a path", text);
                        return -EINVAL;
                }
                return 0;
        case SETTING_TIMEOUT:
                if (parse_timeout(l, text, &usec) < 0) {
                        lease_remark(l, "timeout: \"%s\": expected seconds, such as 60, or 0 for none", text);
                        return -EINVAL;
                }
                return 0;
        case SETTING_ENV:
                if (option_check_env(text, &why) < 0) {
                        lease_remark(l, "%s", why.text);
                        return -EINVAL;
                }
                return 0;
        case SETTING_USER:
                return check_user(l, text);
        case SETTING_TERMINAL:
                return check_terminal(l, text);
        case SETTING_N:
                break;
        }
        return -EINVAL;
}

static int write_settings(const struct lease *l, const struct job *j) {
        return j ? lease_add_job_row(l, j) : lease_write(l);
}

static int store_text(struct lease *l, struct job *j, char **at, const char *text) {
        char *before = *at;
        int r;

        *at = strdup(text);
        r = *at ? write_settings(l, j) : -ENOMEM;
        if (r < 0) {
                free(*at);
                *at = before;
        } else {
                free(before);
        }
        return r;
}

/* The text was checked. */
static int store_setting(struct lease *l, struct job *j, enum lease_setting setting, const char *text) {
        struct settings *s = SETTINGS_OF(l, j), before = *s;
        int r;

        switch (setting) {
        case SETTING_CWD:
                return store_text(l, j, &s->cwd, text);
        case SETTING_ENV:
                return store_text(l, j, &s->env, text);
        case SETTING_USER:
                return store_text(l, j, &s->user, text);
        case SETTING_TIMEOUT:
                (void)parse_timeout(l, text, &s->timeout_us);
                break;
        case SETTING_TERMINAL:
                (void)parse_terminal(text, &s->rows, &s->columns);
                break;
        case SETTING_N:
                return -EINVAL;
        }
        r = write_settings(l, j);
        if (r < 0) {
                s->timeout_us = before.timeout_us;
                s->rows = before.rows;
                s->columns = before.columns;
        }
        return r;
}

int lease_set(struct lease *l, struct job *j, enum lease_setting setting, const char *text) {
        int r = lease_check_setting(l, j, setting, text);

        if (r < 0)
                return r;
        lease_set_remark(l, NULL);
        r = store_setting(l, j, setting, text);
        if (r == 0)
                SETTINGS_OF(l, j)->set_wall_us[setting] = l->changed_wall_us;
        return r;
}

const struct blob *lease_input(const struct lease *l, const struct job *j) {
        return &SETTINGS_OF(l, j)->input;
}

int lease_add_input(struct lease *l, struct job *j, const void *data, size_t len) {
        struct settings *s = SETTINGS_OF(l, j);
        int r = check_writable(l, j);

        if (r < 0)
                return r;
        r = blob_append(&s->input, data, len);
        if (r == -EFBIG)
                lease_remark(l, "stdin: refused: more than %u MiB", (unsigned)(INPUT_SIZE_MAX >> 20));
        if (r == -EDQUOT)
                lease_remark_quota(l, "stdin");
        if (r == 0)
                s->input_wall_us = clock_read_us(CLOCK_REALTIME);
        return r;
}

int lease_clear_input(struct lease *l, struct job *j) {
        struct settings *s = SETTINGS_OF(l, j);
        int r = check_writable(l, j);

        if (r < 0)
                return r;
        blob_clear(&s->input);
        s->input_wall_us = clock_read_us(CLOCK_REALTIME);
        return 0;
}

int lease_get(const struct lease *l, const struct job *j, enum lease_setting setting, struct buf *out) {
        const struct settings *s = SETTINGS_OF(l, j);
        int64_t us = s->timeout_us;

        switch (setting) {
        case SETTING_CWD:
                return buf_printf(out, "%s\n", *s->cwd ? s->cwd : l->workdir);
        case SETTING_TIMEOUT:
                return us % USEC_PER_SEC ? buf_printf(out, "%.6g\n", (double)us / USEC_PER_SEC)
                                         : buf_printf(out, "%" PRId64 "\n", us / USEC_PER_SEC);
        case SETTING_ENV:
                return *s->env ? buf_printf(out, "%s\n", s->env) : 0;
        case SETTING_USER:
                return s->user && *s->user ? buf_printf(out, "%s\n", s->user) : 0;
        case SETTING_TERMINAL:
                return s->rows ? buf_printf(out, "%u %u\n", s->rows, s->columns) : 0;
        case SETTING_N:
                break;
        }
        return -EINVAL;
}

int64_t lease_input_wall_us(const struct lease *l, const struct job *j) {
        return SETTINGS_OF(l, j)->input_wall_us;
}

int64_t lease_set_wall_us(const struct lease *l, const struct job *j, enum lease_setting setting) {
        return SETTINGS_OF(l, j)->set_wall_us[setting];
}
