/* SPDX-License-Identifier: MIT */
#include "pool/environment/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name without its "=" cannot be the beginning of another one that has it. */
static int compare_names(const char *a, const char *b) {
        return strncmp(a, b, strcspn(a, "=") + 1);
}

/* By their place in the text. */
static int compare_places(const void *a, const void *b) {
        const char *one = *(const char *const *)a, *other = *(const char *const *)b;

        return one < other ? -1 : one > other;
}

static int compare_lines(const void *a, const void *b) {
        int r = compare_names(*(const char *const *)a, *(const char *const *)b);

        return r ? r : compare_places(a, b);
}

/* Keep the last line of each name, in the order of the text. Returns how many are left. */
static size_t drop_replaced(const char **lines, size_t n) {
        size_t kept = 0;

        if (n < 2)
                return n;
        qsort(lines, n, sizeof(*lines), compare_lines);
        for (size_t i = 0; i < n; i++)
                if (i + 1 == n || compare_names(lines[i], lines[i + 1]))
                        lines[kept++] = lines[i];
        qsort(lines, kept, sizeof(*lines), compare_places);
        return kept;
}

/* The lines of @text, of each name the last one, and behind them @mark; the caller frees the array before the text. */
static const char **make_env(char *text, const char *mark) {
        static const char name[] = EXEC_MARK "=";
        size_t n = 2;
        const char **env;

        for (const char *c = text; *c; c++)
                n += *c == '\n';
        env = calloc(n + 1, sizeof(*env));
        if (!env)
                return NULL;
        n = 0;
        for (char *line, *rest = text; (line = strsep(&rest, "\n"));)
                if (*line && strncmp(line, name, sizeof(name) - 1))
                        env[n++] = line;
        n = drop_replaced(env, n);
        env[n++] = mark;
        env[n] = NULL;
        return env;
}

int command_init(struct command *c, const struct command_settings *settings) {
        const char *cwd = settings->cwd;

        c->cwd = NULL;
        if (*cwd && *cwd != '/' && asprintf(&c->cwd, "%s/%s", settings->workdir, cwd) < 0)
                return -ENOMEM;
        if (asprintf(&c->lines, "%s\n%s", settings->pool_env, settings->env) < 0)
                c->lines = NULL;
        snprintf(c->mark, sizeof(c->mark), "%s=%s", EXEC_MARK, settings->id);
        c->env = c->lines ? make_env(c->lines, c->mark) : NULL;
        if (!c->env) {
                free(c->lines);
                free(c->cwd);
                return -ENOMEM;
        }
        c->spec = (struct exec_spec){
                .id = settings->id,
                .shell = settings->shell,
                .workdir = settings->workdir,
                .cwd = c->cwd ? c->cwd : *cwd ? cwd : settings->workdir,
                .env = c->env,
        };
        return 0;
}

void command_deinit(struct command *c) {
        free(c->env);
        free(c->lines);
        free(c->cwd);
}
