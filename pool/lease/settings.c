/* SPDX-License-Identifier: MIT */
#include "pool/lease/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/lease/limits.h"

void settings_init(struct settings *s, int dir, struct quota_account *account) {
        *s = (struct settings){};
        blob_init(&s->input, dir, INPUT_SIZE_MAX);
        s->input.quota = account;
}

void settings_deinit(struct settings *s) {
        blob_deinit(&s->input);
        free(s->cwd);
        free(s->env);
        free(s->user);
}

struct setting_values settings_values(const struct settings *s) {
        return (struct setting_values){
                .cwd = s->cwd,
                .env = s->env,
                .timeout_us = s->timeout_us,
                .user = s->user ?: "",
                .rows = s->rows,
                .columns = s->columns,
        };
}

int settings_set(struct settings *s, const struct setting_values *values, int64_t wall_us) {
        char *new_cwd = strdup(values->cwd), *new_env = strdup(values->env);
        char *new_user = *values->user ? strdup(values->user) : NULL;

        if (!new_cwd || !new_env || (*values->user && !new_user)) {
                free(new_cwd);
                free(new_env);
                free(new_user);
                return -ENOMEM;
        }
        if (s->cwd)
                free(s->cwd);
        if (s->env)
                free(s->env);
        if (s->user)
                free(s->user);
        s->cwd = new_cwd;
        s->env = new_env;
        s->user = new_user;
        s->timeout_us = values->timeout_us;
        s->rows = values->rows;
        s->columns = values->columns;
        for (int i = 0; i < SETTING_N; i++)
                s->set_wall_us[i] = wall_us;
        s->input_wall_us = wall_us;
        return 0;
}
