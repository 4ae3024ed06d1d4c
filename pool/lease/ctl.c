/* SPDX-License-Identifier: MIT */

/* What is written into a lease besides commands: the words of ctl, and the settings. */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/lease/internal.h"
#include "pool/lease/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/text.h"
#include "pool/util/watch.h"

/* ctl */

static int verb_kill(struct lease *l, const char *argument) {
        if (*argument)
                return -EINVAL;
        if (l->current)
                lease_kill(l, l->current, "killed through ctl");
        return 0;
}

static int verb_signal(struct lease *l, const char *argument) {
        int signo = text_to_signal(argument);

        if (signo < 0)
                return -EINVAL;
        if (signo == SIGKILL)
                return verb_kill(l, "");
        if (l->current && l->current->exec)
                exec_signal(l->current->exec, signo);
        return 0;
}

static int verb_cancel(struct lease *l, const char *argument) {
        struct result why;

        if (*argument)
                return -EINVAL;
        result_set(&why, RESULT_FAILED, "cancelled through ctl before it ran");
        lease_end_jobs(l, false, &why);
        return 0;
}

static int verb_renew(struct lease *l, const char *argument) {
        int r = 0;

        if (*argument || (l->state != LEASE_LOST && l->state != LEASE_FAILED))
                return -EINVAL;
        /* The end of its jobs stands in the journal first: a run after this one must not go on with them in the new one. */
        if (journal_is_behind(l->table->journal))
                r = leases_rewrite(l->table);
        if (r < 0)
                return r;
        l->prepared = l->prepared_unwritten = false;
        lease_set_state(l, LEASE_WAITING, NULL);
        pool_claim(l->table->pool, &l->claim);
        return 0;
}

static const struct {
        const char *name;
        int (*run)(struct lease *l, const char *argument);
        const char *expected;
} verbs[] = {
        { "kill", verb_kill, "no argument" },
        { "signal", verb_signal, "a signal's name, such as INT" },
        { "cancel", verb_cancel, "no argument" },
        { "renew", verb_renew, "no argument, and a lease that is lost or failed" },
};

static void set_remark(struct lease *l, const char *text) {
        lease_replace(&l->remark, text);
        lease_touch(l);
}

void lease_remark(struct lease *l, const char *format, ...) {
        struct result line;
        char text[RESULT_TEXT_MAX];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        result_set(&line, RESULT_INVALID, "%s", text); /* makes it one printable line */
        set_remark(l, line.text);
}

int lease_command(struct lease *l, const char *line) {
        size_t len = strcspn(line, " ");
        const char *argument = line + len + strspn(line + len, " ");
        int r;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
                if (strlen(verbs[i].name) != len || strncmp(verbs[i].name, line, len))
                        continue;
                r = verbs[i].run(l, argument);
                if (r == -EINVAL)
                        lease_remark(l, "ctl: \"%s\": %s takes %s", line, verbs[i].name, verbs[i].expected);
                else if (r < 0)
                        lease_remark(l, "ctl: \"%s\": not written down: %s", line, strerror(-r));
                else
                        set_remark(l, NULL);
                return r;
        }
        lease_remark(l, "ctl: \"%s\": unknown; known are kill, signal NAME, cancel, renew", line);
        return -EINVAL;
}

/* settings */

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
                if (config_check_env(text, &why) < 0) {
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
        set_remark(l, NULL);
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
