/* SPDX-License-Identifier: MIT */
#include "pool/lease/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

static int parse_timeout(const struct lease *l, const char *text, int64_t *out) {
        if (!*text) {
                *out = l->table->config->timeout_us;
                return 0;
        }
        return text_to_usec(text, out);
}

int lease_check_setting(struct lease *l, enum lease_setting setting, const char *text) {
        struct result why;
        int64_t usec;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
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

static int store_setting(struct lease *l, enum lease_setting setting, const char *text) {
        char **at = setting == SETTING_CWD ? &l->cwd : &l->env, *before = *at;
        int64_t timeout_before = l->timeout_us;
        int r;

        if (setting == SETTING_TIMEOUT) {
                (void)parse_timeout(l, text, &l->timeout_us);
                r = lease_write(l);
                if (r < 0)
                        l->timeout_us = timeout_before;
                return r;
        }
        *at = strdup(text);
        r = *at ? lease_write(l) : -ENOMEM;
        if (r < 0) {
                free(*at);
                *at = before;
        } else {
                free(before);
        }
        return r;
}

int lease_set(struct lease *l, enum lease_setting setting, const char *text) {
        int r = lease_check_setting(l, setting, text);

        if (r < 0)
                return r;
        lease_set_remark(l, NULL);
        r = store_setting(l, setting, text);
        if (r == 0)
                l->set_wall_us[setting] = l->changed_wall_us;
        return r;
}

const struct blob *lease_input(const struct lease *l) {
        return &l->input;
}

int lease_add_input(struct lease *l, const void *data, size_t len) {
        int r;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        r = blob_append(&l->input, data, len);
        if (r == -EFBIG)
                lease_remark(l, "stdin: refused: more than %u MiB", (unsigned)(INPUT_SIZE_MAX >> 20));
        if (r == -EDQUOT)
                lease_remark_quota(l, "stdin");
        if (r == 0)
                l->input_wall_us = clock_read_us(CLOCK_REALTIME);
        return r;
}

void lease_clear_input(struct lease *l) {
        blob_clear(&l->input);
        l->input_wall_us = clock_read_us(CLOCK_REALTIME);
}

int lease_get(const struct lease *l, enum lease_setting setting, struct buf *out) {
        int64_t us = l->timeout_us;

        switch (setting) {
        case SETTING_CWD:
                return buf_printf(out, "%s\n", *l->cwd ? l->cwd : l->workdir);
        case SETTING_TIMEOUT:
                return us % USEC_PER_SEC ? buf_printf(out, "%.6g\n", (double)us / USEC_PER_SEC)
                                         : buf_printf(out, "%" PRId64 "\n", us / USEC_PER_SEC);
        case SETTING_ENV:
                return *l->env ? buf_printf(out, "%s\n", l->env) : 0;
        case SETTING_N:
                break;
        }
        return -EINVAL;
}

int64_t lease_input_wall_us(const struct lease *l) {
        return l->input_wall_us;
}

int64_t lease_set_wall_us(const struct lease *l, enum lease_setting setting) {
        return l->set_wall_us[setting];
}
