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
        case SETTING_N:
                break;
        }
        return -EINVAL;
}

static int write_settings(const struct lease *l, const struct job *j) {
        return j ? lease_add_job_row(l, j) : lease_write(l);
}

static int store_setting(struct lease *l, struct job *j, enum lease_setting setting, const char *text) {
        struct settings *s = SETTINGS_OF(l, j);
        char **at = setting == SETTING_CWD ? &s->cwd : &s->env, *before = *at;
        int64_t timeout_before = s->timeout_us;
        int r;

        if (setting == SETTING_TIMEOUT) {
                (void)parse_timeout(l, text, &s->timeout_us);
                r = write_settings(l, j);
                if (r < 0)
                        s->timeout_us = timeout_before;
                return r;
        }
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
