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
}

int settings_set(struct settings *s, const char *cwd, const char *env, int64_t timeout_us, int64_t wall_us) {
        char *new_cwd = strdup(cwd), *new_env = strdup(env);

        if (!new_cwd || !new_env) {
                free(new_cwd);
                free(new_env);
                return -ENOMEM;
        }
        if (s->cwd)
                free(s->cwd);
        if (s->env)
                free(s->env);
        s->cwd = new_cwd;
        s->env = new_env;
        s->timeout_us = timeout_us;
        for (int i = 0; i < SETTING_N; i++)
                s->set_wall_us[i] = wall_us;
        s->input_wall_us = wall_us;
        return 0;
}
