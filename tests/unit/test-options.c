/* SPDX-License-Identifier: MIT */

/* The tables of options that the program has, all together. */

#include "check.h"
#include "fs/daemon/backends.h"

static struct config c;

/* Each name once, each with a help; what names a credential or a file of this machine is the mount's alone. */
static void rows(void) {
        const struct option_row *o, *other;

        for (size_t i = 0; (o = config_row(&c, i)); i++) {
                bool is_text = o->type >= OPTION_TEXT;

                for (size_t k = 0; k < i && (other = config_row(&c, k)); k++)
                        CHECK(strcmp(o->name, other->name));
                CHECK(*o->help);
                CHECK(!(o->live && is_text));
                CHECK(o->type != OPTION_CHOICE || o->words);
                if (o->type == OPTION_FILE || (o->secret && o->variables))
                        CHECK_INT(o->scope, OPTION_OF_MOUNT);
        }
}

static const struct option_row *find(const char *name) {
        const struct option_row *o;

        for (size_t i = 0; (o = config_row(&c, i)); i++)
                if (!strcmp(o->name, name))
                        return o;
        return NULL;
}

/* .pool/ctl copies the core's values to change them; those of other tables would change at once. */
static void live(void) {
        for (size_t t = 0; provider_tables[t]; t++)
                for (size_t i = 0; i < provider_tables[t]->n_rows; i++)
                        CHECK(!provider_tables[t]->rows[i].live);
}

/* Who may set what, where a mount has several pools. */
static void scopes(void) {
        static const char *const of_owner[] = { "image", "cpu", "memory", "env", "timeout", "wait", "max", "min",
                                                "idle_timeout", "reset" };
        static const char *const of_daemon[] = { "gpu", "secrets", "volumes", "network", "block_network" };
        static const char *const of_mount[] = { "backend", "isolate", "state", "dockerfile", "server_url", "cafile",
                                                "profile", "modal_config", "modal_environment", "token_id",
                                                "token_secret", "fault", "allow_other", "app" };

        for (size_t i = 0; i < sizeof(of_owner) / sizeof(of_owner[0]); i++)
                CHECK_INT(find(of_owner[i])->scope, OPTION_OF_OWNER);
        for (size_t i = 0; i < sizeof(of_daemon) / sizeof(of_daemon[0]); i++)
                CHECK_INT(find(of_daemon[i])->scope, OPTION_OF_DAEMON);
        for (size_t i = 0; i < sizeof(of_mount) / sizeof(of_mount[0]); i++)
                CHECK_INT(find(of_mount[i])->scope, OPTION_OF_MOUNT);
}

static void providers(void) {
        struct result why;

        CHECK_STR(provider_name(&c), "local");
        for (const char *const *name = find("backend")->words; *name; name++) {
                CHECK_INT(config_set(&c, "backend", *name, CONFIG_COMMAND_LINE, &why), 0);
                CHECK_STR(provider_name(&c), *name);
                CHECK_INT(provider_has_credentials(&c), !strcmp(*name, "modal"));
        }
        CHECK_INT(config_set(&c, "backend", "docker", CONFIG_COMMAND_LINE, &why), -EINVAL);
}

int main(void) {
        if (config_init(&c, provider_tables) < 0)
                return 1;
        RUN(rows);
        RUN(live);
        RUN(scopes);
        RUN(providers);
        config_deinit(&c);
        return check_done();
}
