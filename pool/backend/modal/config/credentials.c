/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/config/credentials.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/backend/modal/config/toml.h"
#include "pool/backend/modal/limits.h"
#include "pool/net/http.h"
#include "pool/util/buf.h"
#include "pool/util/cleanup.h"

#define SERVER_URL "https://api.modal.com"

#define AT(field) offsetof(struct modal_client_options, field)

static const struct option_row rows[] = {
        { "profile", OPTION_TEXT, AT(profile), "", OPTION_WORDS("MODAL_PROFILE"),
          .help = "a profile of ~/.modal.toml; else its active one" },
        { "modal_config", OPTION_FILE, AT(config_file), "", OPTION_WORDS("MODAL_CONFIG_PATH"),
          .help = "a file instead of ~/.modal.toml" },
        { "modal_environment", OPTION_TEXT, AT(environment), "", OPTION_WORDS("MODAL_ENVIRONMENT"),
          .help = "the Modal environment of app, Secrets and Volumes" },
        { "server_url", OPTION_TEXT, AT(server_url), "", OPTION_WORDS("MODAL_SERVER_URL"),
          .help = "another server than Modal's own" },
        { "cafile", OPTION_FILE, AT(cafile), "", OPTION_WORDS("SSL_CERT_FILE"),
          .help = "certificate authorities to trust, in PEM form" },
        { "token_id", OPTION_TEXT, AT(token_id), "", OPTION_WORDS("MODAL_TOKEN_ID"), .secret = true,
          .help = "from the environment, the file or ~/.modal.toml only" },
        { "token_secret", OPTION_TEXT, AT(token_secret), "", OPTION_WORDS("MODAL_TOKEN_SECRET"), .secret = true,
          .help = "likewise" },
};

const struct option_table modal_client_options = OPTION_TABLE(struct modal_client_options, "modal", rows);

/* What is read out of the file: first which profile, then what it says. */
struct profile {
        const char *name;  /* the one asked for, or NULL */
        char *active;      /* the one that calls itself active */
        bool has_default;
        bool found;
        const char *wanted; /* in the second reading */
        char *server_url, *token_id, *token_secret, *environment;
};

static int set(char **at, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*at);
        *at = copy;
        return 0;
}

static int take_name(void *owner, const char *table, const char *key, enum toml_type type, const char *value) {
        struct profile *p = owner;

        if (p->name && !strcmp(table, p->name))
                p->found = true;
        if (!strcmp(table, "default"))
                p->has_default = true;
        if (!strcmp(key, "active") && type == TOML_BOOL && !strcmp(value, "true") && !p->active)
                return set(&p->active, table);
        return 0;
}

static int take_setting(void *owner, const char *table, const char *key, enum toml_type type, const char *value) {
        struct profile *p = owner;
        const struct {
                const char *key;
                char **at;
        } settings[] = {
                { "server_url", &p->server_url },
                { "token_id", &p->token_id },
                { "token_secret", &p->token_secret },
                { "environment", &p->environment },
        };

        if (strcmp(table, p->wanted) || type != TOML_STRING)
                return 0;
        for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
                if (!strcmp(key, settings[i].key))
                        return set(settings[i].at, value);
        return 0;
}

/* The whole file; -ENOENT where there is none. */
static int read_file(const char *path, struct buf *out) {
        _cleanup_(cleanup_fclose) FILE *f = fopen(path, "re");
        char chunk[4096];
        size_t n;
        int r = 0;

        if (!f)
                return -errno;
        while (r == 0 && (n = fread(chunk, 1, sizeof(chunk), f)) > 0)
                r = buf_append(out, chunk, n);
        explicit_bzero(chunk, sizeof(chunk));
        return r == 0 && ferror(f) ? -EIO : r;
}

static int read_profile(struct profile *p, const char *path, const struct buf *text, struct result *why) {
        struct result inner = {};
        int r = toml_read(buf_text(text), text->len, take_name, p, &inner);

        if (r == 0 && p->name && !p->found) {
                result_set(why, RESULT_INVALID, "%s has no profile \"%s\"", path, p->name);
                return -EINVAL;
        }
        p->wanted = p->name ? p->name : p->active ? p->active : p->has_default ? "default" : NULL;
        if (r == 0 && p->wanted)
                r = toml_read(buf_text(text), text->len, take_setting, p, &inner);
        if (r == -EINVAL)
                result_set(why, RESULT_INVALID, "%s: %s", path, inner.text);
        return r;
}

static int find_file(const struct modal_client_options *given, char **out) {
        const char *home = getenv("HOME");
        const struct passwd *user;

        if (*given->config_file) {
                *out = strdup(given->config_file);
                return *out ? 0 : -ENOMEM;
        }
        if (!home || !*home) {
                user = getpwuid(geteuid());
                home = user ? user->pw_dir : "/";
        }
        return asprintf(out, "%s/.modal.toml", home) < 0 ? -ENOMEM : 0;
}

static int choose(char **out, const char *given, char **from_file, const char *otherwise) {
        if (*given)
                return set(out, given);
        if (*from_file && **from_file) {
                *out = TAKE_PTR(*from_file);
                return 0;
        }
        return set(out, otherwise);
}

static int check(struct modal_credentials *c, const char *path, struct result *why) {
        if (!*c->token_id || !*c->token_secret) {
                result_set(why, RESULT_DENIED,
                           "no Modal %s: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or run \"modal token new\", "
                           "which writes them to %s",
                           *c->token_id ? "token secret" : "token", path);
                return -EACCES;
        }
        /* They become header lines. */
        for (const char *s = c->token_id; *s; s++)
                if (*s <= ' ' || *s >= 0x7f)
                        goto odd;
        for (const char *s = c->token_secret; *s; s++)
                if (*s <= ' ' || *s >= 0x7f)
                        goto odd;
        return http_check_url(c->server_url, &c->plain, why);
odd:
        result_set(why, RESULT_DENIED, "the Modal token has characters that no token has");
        return -EACCES;
}

int modal_credentials_init(struct modal_credentials *c, const struct modal_client_options *given, struct result *why) {
        struct profile p = { .name = *given->profile ? given->profile : NULL };
        struct buf text = BUF_INIT(TOML_FILE_MAX);
        _cleanup_(cleanup_free) char *path = NULL;
        bool named = *given->config_file;
        int r;

        *c = (struct modal_credentials){};
        r = find_file(given, &path);
        if (r == 0)
                r = read_file(path, &text);
        if (r == -ENOENT && !named && !p.name)
                r = 0;
        else if (r < 0 && path)
                result_set(why, RESULT_INVALID, "%s: %s", path, strerror(-r));
        if (r == 0)
                r = read_profile(&p, path, &text, why);
        if (r == 0)
                r = choose(&c->server_url, given->server_url, &p.server_url, SERVER_URL);
        if (r == 0)
                r = choose(&c->token_id, given->token_id, &p.token_id, "");
        if (r == 0)
                r = choose(&c->token_secret, given->token_secret, &p.token_secret, "");
        if (r == 0)
                r = choose(&c->environment, given->environment, &p.environment, "");
        if (r == 0)
                r = check(c, path, why);
        if (text.data)
                explicit_bzero(text.data, text.len);
        buf_deinit(&text);
        if (p.token_secret)
                explicit_bzero(p.token_secret, strlen(p.token_secret));
        free(p.active);
        free(p.server_url);
        free(p.token_id);
        free(p.token_secret);
        free(p.environment);
        if (r < 0)
                modal_credentials_deinit(c);
        return r;
}

void modal_credentials_deinit(struct modal_credentials *c) {
        if (c->token_secret)
                explicit_bzero(c->token_secret, strlen(c->token_secret));
        free(c->server_url);
        free(c->token_id);
        free(c->token_secret);
        free(c->environment);
        *c = (struct modal_credentials){};
}
