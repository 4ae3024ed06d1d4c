/* SPDX-License-Identifier: MIT */
#include "fs/client/submit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/client/command.h"
#include "fs/client/limits.h"
#include "fs/client/terminal.h"

static int set(const struct job_files *f, const char *name, const char *value, struct result *why) {
        return value ? job_files_write(f, name, value, strlen(value), why) : 0;
}

/* The lease's own variables stay; of each name the last line counts. */
static int set_variables(const struct job_files *f, const struct arguments *a, struct result *why) {
        const char *term = a->has_terminal ? getenv("TERM") : NULL;
        struct buf lines = BUF_INIT(2 * ENV_SIZE_MAX);
        int r = 0;

        if (!term && a->env.len == 0)
                return 0;
        r = job_files_read(f, "env", &lines, why);
        if (r == 0 && term)
                r = buf_printf(&lines, "TERM=%s\n", term);
        if (r == 0)
                r = buf_append(&lines, a->env.data, a->env.len);
        if (r == 0)
                r = job_files_write(f, "env", lines.data, lines.len, why);
        buf_deinit(&lines);
        return r;
}

/* A job with a terminal has its input open anyway. */
static int set_streams(const struct job_files *f, const struct arguments *a, struct result *why) {
        char size[TERMINAL_SIZE_TEXT];

        if (a->has_terminal) {
                terminal_size(size);
                return set(f, "terminal", size, why);
        }
        return a->has_no_input ? 0 : set(f, "ctl", "input open\n", why);
}

static int submit(const struct job_files *f, const struct arguments *a, struct result *why) {
        struct buf command = BUF_INIT(COMMAND_SIZE_MAX);
        int r = command_write(a->words, a->is_shell, &command);

        if (r < 0)
                result_set(why, RESULT_INVALID, "the command: %s", strerror(-r));
        else
                r = job_files_write(f, "cmd", command.data, command.len, why);
        buf_deinit(&command);
        return r;
}

int make_job(struct job_files *f, const struct arguments *a, struct result *why) {
        int r = job_files_make(f, a->dir, why);

        if (r < 0)
                return r;
        r = set(f, "cwd", a->cwd, why);
        if (r == 0)
                r = set(f, "user", a->user, why);
        if (r == 0)
                r = set(f, "timeout", a->is_shell && !a->timeout ? "0" : a->timeout, why);
        if (r == 0)
                r = set_variables(f, a, why);
        if (r == 0)
                r = set_streams(f, a, why);
        if (r == 0)
                r = submit(f, a, why);
        if (r < 0)
                job_files_remove(f);
        return r;
}
