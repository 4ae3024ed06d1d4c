/* SPDX-License-Identifier: MIT */
#include "pool/base/config.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

enum type {
        TYPE_NUMBER,
        TYPE_BYTES,
        TYPE_SECONDS,
        TYPE_BOOL,
        TYPE_TEXT,
        TYPE_PATH,   /* text that must be absolute, or empty */
        TYPE_ENV,    /* lines KEY=VALUE; repeated values add up */
        TYPE_CHOICE, /* one of the words, as its number */
};

struct option {
        const char *name;
        enum type type;
        size_t offset;
        const char *initial;
        const char *const *variables; /* variables of the process environment; the first that is set counts */
        uint64_t least, most;         /* of a number, or of bytes; of seconds the least, in microseconds */
        const char *const *words;     /* of a choice, or of a text that is one of these */
        const char *const *foreign;   /* values of the variables that only Hermes-Agent, whose names they are, knows */
        bool secret;
        const char *help;
};

#define AT(field) offsetof(struct config, field)
#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static const struct option options[] = {
        { "backend", TYPE_TEXT, AT(backend), "local", WORDS("TERMINAL_ENV"), .words = WORDS("local", "modal"),
          .foreign = WORDS("docker", "ssh", "singularity", "daytona", "vercel_sandbox"),
          .help = "who provides sandboxes" },
        { "mode", TYPE_CHOICE, AT(mode), "pool", WORDS("TERMINAL_MODAL_MODE"), .words = WORDS("pool", "direct"),
          .foreign = WORDS("auto", "managed"),
          .help = "lend environments again, or give each lease one of its own" },
        { "max", TYPE_NUMBER, AT(max), "4", WORDS("TERMINAL_MODAL_POOL_MAX", "TERMINAL_MODAL_POOL_SIZE"),
          1, ENVIRONMENTS_MAX, .help = "environments at most" },
        { "min", TYPE_NUMBER, AT(min), "0", NULL, 0, ENVIRONMENTS_MAX,
          .help = "environments kept idle and ready" },
        { "max_leases", TYPE_NUMBER, AT(max_leases), "4096", NULL, 1, LEASES_MAX, .help = "leases at most" },
        { "wait", TYPE_SECONDS, AT(wait_us), "300", .help = "how long a lease waits for an environment" },
        { "oversubscribe", TYPE_BOOL, AT(oversubscribe), "yes",
          .help = "after that, one environment over max; else the lease fails" },
        { "creates", TYPE_NUMBER, AT(creates), "16", NULL, 1, CREATES_MAX,
          .help = "environments in creation at one time" },
        { "max_per_user", TYPE_NUMBER, AT(max_per_user), "0", NULL, 0, ENVIRONMENTS_MAX,
          .help = "environments that the leases of one user hold at most, 0: any number" },
        { "held_warning", TYPE_SECONDS, AT(held_warning_us), "3600",
          .help = "the log names leases that hold an environment so long without a job, 0: never" },
        { "stop_timeout", TYPE_SECONDS, AT(stop_timeout_us), "20",
          .help = "how long ending all environments may take" },
        { "reset", TYPE_CHOICE, AT(reset), "workdir", .words = WORDS("workdir", "environment"),
          .help = "what each lease finds new" },
        { "max_uses", TYPE_NUMBER, AT(max_uses), "0", NULL, 0, INT64_MAX,
          .help = "leases that one environment serves, 0: any number" },
        { "idle_timeout", TYPE_SECONDS, AT(idle_timeout_us), "600",
          .help = "an idle environment over min is ended after that and up to a tenth more, 0: never" },
        { "keepalive", TYPE_SECONDS, AT(keepalive_us), "60",
          .help = "an environment idle that long is asked whether it still works, 0: never" },
        { "probe_timeout", TYPE_SECONDS, AT(probe_timeout_us), "10", NULL, PROBE_TIMEOUT_MIN_US,
          .help = "how long its answer may take; two that fail in a row end it" },
        { "max_lifetime", TYPE_SECONDS, AT(max_lifetime_us), "0",
          .help = "age at which an environment is ended, 0: the provider's own" },
        { "min_life", TYPE_SECONDS, AT(min_life_us), "300",
          .help = "an environment with less left to live is not lent, but for its first half" },
        { "base", TYPE_PATH, AT(base), "/root", WORDS("TERMINAL_CWD"), .foreign = WORDS(".", "~", "auto", "cwd"),
          .help = "workdirs are BASE/hermes_tasks/NAME" },
        { "shell", TYPE_TEXT, AT(shell), "", .help = "what runs commands; empty: bash, else sh" },
        { "timeout", TYPE_SECONDS, AT(timeout_us), "180", WORDS("TERMINAL_TIMEOUT"),
          .help = "for a job, 0: none" },
        { "kill_grace", TYPE_SECONDS, AT(kill_grace_us), "1",
          .help = "after its timeout a job gets TERM, and so much later KILL" },
        { "env", TYPE_ENV, AT(env), "", .secret = true, .help = "KEY=VALUE for every job; may be repeated" },
        { "output_max", TYPE_BYTES, AT(output_max), "1G", NULL, 1, INT64_MAX,
          .help = "bytes of output of one job" },
        { "spool_max", TYPE_BYTES, AT(spool_max), "0", NULL, 0, INT64_MAX,
          .help = "bytes of commands, input and output that the pool keeps on disk, 0: what the disk holds" },
        { "spool_max_per_user", TYPE_BYTES, AT(spool_max_per_user), "0", NULL, 0, INT64_MAX,
          .help = "of these, bytes of one user, 0: no maximum of its own" },
        { "history", TYPE_NUMBER, AT(history), "256", NULL, 1, 100000,
          .help = "finished jobs kept readable in a lease" },
        { "isolate", TYPE_CHOICE, AT(isolate), "bwrap", .words = WORDS("bwrap", "none"),
          .help = "local: how environments are kept apart" },
        { "network", TYPE_BOOL, AT(network), "no", .help = "local: give environments the host's network" },
        { "size", TYPE_BYTES, AT(size), "2G", NULL, 1 << 20, INT64_MAX,
          .help = "local: an environment's writable space, in memory" },
        { "image", TYPE_TEXT, AT(image), "debian:12-slim", WORDS("TERMINAL_MODAL_IMAGE"),
          .help = "modal: a registry tag" },
        { "dockerfile", TYPE_PATH, AT(dockerfile), "",
          .help = "modal: a file of further commands for the image, RUN and such" },
        { "app", TYPE_TEXT, AT(app), "modalpool", .help = "modal: the app that sandboxes belong to, made if missing" },
        { "cpu", TYPE_TEXT, AT(cpu), "", .help = "modal: cores, such as 0.5 or 4" },
        { "memory", TYPE_BYTES, AT(memory), "0", NULL, 0, UINT64_C(1) << 50,
          .help = "modal: bytes, such as 2G; 0: Modal's default" },
        { "gpu", TYPE_TEXT, AT(gpu), "", .help = "modal: a type, such as A100 or A100:2" },
        { "region", TYPE_TEXT, AT(region), "", .help = "modal: where sandboxes may run; a+b for either" },
        { "cloud", TYPE_TEXT, AT(cloud), "", .help = "modal: the cloud provider" },
        { "secrets", TYPE_TEXT, AT(secrets), "", .help = "modal: names of Secrets for the environment, a+b" },
        { "volumes", TYPE_TEXT, AT(volumes), "", .help = "modal: Volumes, NAME:/PATH or NAME:/PATH:ro, a+b" },
        { "block_network", TYPE_BOOL, AT(block_network), "no", .help = "modal: no network in sandboxes" },
        { "cidr_allowlist", TYPE_TEXT, AT(cidr_allowlist), "",
          .help = "modal: the only networks that sandboxes reach, a+b" },
        { "lifetime", TYPE_SECONDS, AT(lifetime_us), "14400",
          .help = "modal: a sandbox ends after this in any case, 86400 at most" },
        { "modal_idle_timeout", TYPE_SECONDS, AT(modal_idle_us), "0",
          .help = "modal: a sandbox ends when nothing ran in it for this long, leased or not; 0: never" },
        { "profile", TYPE_TEXT, AT(profile), "", WORDS("MODAL_PROFILE"),
          .help = "modal: a profile of ~/.modal.toml; else its active one" },
        { "modal_config", TYPE_PATH, AT(modal_config), "", WORDS("MODAL_CONFIG_PATH"),
          .help = "modal: a file instead of ~/.modal.toml" },
        { "modal_environment", TYPE_TEXT, AT(modal_environment), "", WORDS("MODAL_ENVIRONMENT"),
          .help = "modal: the Modal environment of app, Secrets and Volumes" },
        { "server_url", TYPE_TEXT, AT(server_url), "", WORDS("MODAL_SERVER_URL"),
          .help = "modal: another server than Modal's own" },
        { "cafile", TYPE_PATH, AT(cafile), "", WORDS("SSL_CERT_FILE"),
          .help = "modal: certificate authorities to trust, in PEM form" },
        { "token_id", TYPE_TEXT, AT(token_id), "", WORDS("MODAL_TOKEN_ID"), .secret = true,
          .help = "modal: from the environment, the file or ~/.modal.toml only" },
        { "token_secret", TYPE_TEXT, AT(token_secret), "", WORDS("MODAL_TOKEN_SECRET"), .secret = true,
          .help = "modal: likewise" },
        { "fault", TYPE_TEXT, AT(fault), "",
          .help = "inject faults: KIND:RATE joined by +; kinds create, refuse, clean, idle, death, delay" },
        { "fault_seed", TYPE_NUMBER, AT(fault_seed), "1", NULL, 0, INT64_MAX, .help = "which faults" },
        { "state", TYPE_PATH, AT(state), "", .help = "directory for the journal and for output" },
        { "log", TYPE_CHOICE, AT(log_level), "info", .words = WORDS("error", "warning", "info", "debug"),
          .help = "least important message that is logged" },
        { "keep", TYPE_BOOL, AT(keep), "no",
          .help = "when stopping, leave environments and leases for the next mount here" },
        { "allow_other", TYPE_BOOL, AT(allow_other), "no", .help = "let other users make leases of their own" },
};

#define N_OPTIONS (sizeof(options) / sizeof(options[0]))
_Static_assert(N_OPTIONS <= CONFIG_OPTIONS_MAX, "CONFIG_OPTIONS_MAX is too small");

static void *field(const struct config *c, const struct option *o) {
        return (char *)c + o->offset;
}

static const struct option *find_option(const char *name) {
        for (size_t i = 0; i < N_OPTIONS; i++)
                if (!strcmp(options[i].name, name))
                        return &options[i];
        return NULL;
}

static int invalid(struct result *why, const struct option *o, const char *value, const char *expected) {
        result_set(why, RESULT_INVALID, "option %s=%s: expected %s", o->name, o->secret ? "***" : value, expected);
        return -EINVAL;
}

/* The index of @value in @words, which may be NULL, or -1. */
static int find_word(const char *const *words, const char *value) {
        for (int i = 0; words && words[i]; i++)
                if (!strcmp(words[i], value))
                        return i;
        return -1;
}

static int not_a_word(struct result *why, const struct option *o, const char *value) {
        char expected[256] = "";

        for (unsigned i = 0; o->words[i]; i++)
                snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), "%s%s", i ? " or " : "",
                         o->words[i]);
        return invalid(why, o, value, expected);
}

int config_check_env(const char *lines, struct result *why) {
        for (const char *line = lines; *line;) {
                size_t len = strcspn(line, "\n"), key = strcspn(line, "=\n");

                if (len > 0 && (key == 0 || line[key] != '=')) {
                        result_set(why, RESULT_INVALID, "env: \"%.*s\" is not KEY=VALUE", (int)len, line);
                        return -EINVAL;
                }
                if (len > 0 && !text_is_variable(line, key)) {
                        result_set(why, RESULT_INVALID,
                                   "env: \"%.*s\" cannot be the name of a variable, which has letters, digits and _ "
                                   "only, and no digit first", (int)key, line);
                        return -EINVAL;
                }
                line += len + (line[len] == '\n');
        }
        return 0;
}

static int set_string(char **at, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*at);
        *at = copy;
        return 0;
}

static int add_env(char **at, const char *value) {
        char *joined;

        if (!*at || !**at)
                return set_string(at, value);
        if (asprintf(&joined, "%s\n%s", *at, value) < 0)
                return -ENOMEM;
        free(*at);
        *at = joined;
        return 0;
}

/* Check @value, and store it unless @c is NULL. */
static int parse(struct config *c, const struct option *o, const char *value, bool add, struct result *why) {
        char expected[256];
        uint64_t number;
        int64_t usec;
        bool yes;
        int word;

        switch (o->type) {
        case TYPE_NUMBER:
        case TYPE_BYTES:
                if ((o->type == TYPE_NUMBER ? text_to_u64 : text_to_bytes)(value, &number) < 0 ||
                    number < o->least || number > o->most) {
                        snprintf(expected, sizeof(expected), "%s from %" PRIu64 " to %" PRIu64,
                                 o->type == TYPE_NUMBER ? "a whole number" : "bytes, such as 64M or 1G,",
                                 o->least, o->most);
                        return invalid(why, o, value, expected);
                }
                if (c)
                        *(uint64_t *)field(c, o) = number;
                return 0;
        case TYPE_SECONDS:
                if (text_to_usec(value, &usec) < 0 || usec < (int64_t)o->least) {
                        snprintf(expected, sizeof(expected), "seconds, such as 300 or 0.5");
                        if (o->least)
                                snprintf(expected, sizeof(expected), "seconds, at least %g",
                                         (double)o->least / USEC_PER_SEC);
                        return invalid(why, o, value, expected);
                }
                if (c)
                        *(int64_t *)field(c, o) = usec;
                return 0;
        case TYPE_BOOL:
                if (text_to_bool(value, &yes) < 0)
                        return invalid(why, o, value, "yes or no");
                if (c)
                        *(bool *)field(c, o) = yes;
                return 0;
        case TYPE_CHOICE:
                word = find_word(o->words, value);
                if (word < 0)
                        return not_a_word(why, o, value);
                if (c)
                        *(unsigned *)field(c, o) = word;
                return 0;
        case TYPE_PATH:
                if (*value && *value != '/')
                        return invalid(why, o, value, "an absolute path");
                return c ? set_string(field(c, o), value) : 0;
        case TYPE_ENV:
                if (config_check_env(value, why) < 0)
                        return -EINVAL;
                if (!c)
                        return 0;
                return add ? add_env(field(c, o), value) : set_string(field(c, o), value);
        case TYPE_TEXT:
                if (o->words && find_word(o->words, value) < 0)
                        return not_a_word(why, o, value);
                return c ? set_string(field(c, o), value) : 0;
        }
        return -EINVAL;
}

int config_init(struct config *c) {
        struct result why;

        *c = (struct config){};
        for (size_t i = 0; i < N_OPTIONS; i++) {
                int r = parse(c, &options[i], options[i].initial, false, &why);

                if (r < 0) {
                        config_deinit(c);
                        return r;
                }
        }
        return 0;
}

void config_deinit(struct config *c) {
        for (size_t i = 0; i < N_OPTIONS; i++)
                switch (options[i].type) {
                case TYPE_TEXT:
                case TYPE_PATH:
                case TYPE_ENV:
                        free(*(char **)field(c, &options[i]));
                        break;
                case TYPE_NUMBER:
                case TYPE_BYTES:
                case TYPE_SECONDS:
                case TYPE_BOOL:
                case TYPE_CHOICE:
                        break;
                }
        *c = (struct config){};
}

int config_set(struct config *c, const char *name, const char *value, enum config_source source,
               struct result *why) {
        const struct option *o = find_option(name);
        enum config_source *from;
        int r;

        if (!o) {
                result_set(why, RESULT_INVALID, "%s is no option; modalpool -h lists them", name);
                return -ENOENT;
        }
        if (o->secret && o->variables && source == CONFIG_COMMAND_LINE) {
                result_set(why, RESULT_INVALID, "option %s: every user of this machine can read a command line; "
                           "set it in the environment (%s) or in a file", o->name, o->variables[0]);
                return -EINVAL;
        }
        if (!value && o->type != TYPE_BOOL)
                return invalid(why, o, "", "a value");
        if (!value)
                value = "yes";

        from = &c->source[o - options];
        if (source < *from)
                return parse(NULL, o, value, false, why);
        r = parse(c, o, value, source == *from, why);
        if (r == -ENOMEM)
                result_set(why, RESULT_FAILED, "option %s: out of memory", name);
        if (r == 0)
                *from = source;
        return r;
}

int config_read_environment(struct config *c, struct result *why) {
        for (size_t i = 0; i < N_OPTIONS; i++)
                for (const char *const *v = options[i].variables; v && *v; v++) {
                        char *value = getenv(*v);
                        struct result inner;
                        int r;

                        if (!value || !*value)
                                continue;
                        if (find_word(options[i].foreign, value) >= 0) {
                                log_info("environment variable %s=%s: means something to Hermes-Agent only, passed over",
                                         *v, value);
                                continue;
                        }
                        r = config_set(c, options[i].name, value, CONFIG_ENVIRONMENT, &inner);
                        if (options[i].secret) {
                                /* Wipe it, so that no child and no reader of /proc finds it. */
                                explicit_bzero(value, strlen(value));
                                unsetenv(*v);
                        }
                        if (r < 0) {
                                result_set(why, inner.code, "environment variable %s: %s", *v, inner.text);
                                return r;
                        }
                        break;
                }
        return 0;
}

static int set_from_json(struct config *c, const char *name, const json_t *value, struct result *why) {
        char text[64];

        switch (json_typeof(value)) {
        case JSON_STRING:
                return config_set(c, name, json_string_value(value), CONFIG_FILE, why);
        case JSON_INTEGER:
                snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
                return config_set(c, name, text, CONFIG_FILE, why);
        case JSON_REAL:
                snprintf(text, sizeof(text), "%.6f", json_real_value(value));
                return config_set(c, name, text, CONFIG_FILE, why);
        case JSON_TRUE:
        case JSON_FALSE:
                return config_set(c, name, json_is_true(value) ? "yes" : "no", CONFIG_FILE, why);
        default:
                result_set(why, RESULT_INVALID, "%s: expected a string, a number, true or false", name);
                return -EINVAL;
        }
}

int config_read_file(struct config *c, const char *path, struct result *why) {
        json_error_t error;
        json_t *root, *value;
        const char *name;
        int r = 0;

        root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
        if (!root) {
                if (error.line > 0)
                        result_set(why, RESULT_INVALID, "%s:%d: %s", path, error.line, error.text);
                else
                        result_set(why, RESULT_INVALID, "%s", error.text);
                return -EINVAL;
        }
        if (!json_is_object(root)) {
                result_set(why, RESULT_INVALID, "%s: expected a JSON object, option to value", path);
                r = -EINVAL;
        } else {
                json_object_foreach (root, name, value) {
                        struct result inner;

                        r = set_from_json(c, name, value, &inner);
                        if (r < 0) {
                                result_set(why, inner.code, "%s: %s", path, inner.text);
                                break;
                        }
                }
        }
        json_decref(root);
        return r;
}

int config_check(const struct config *c, struct result *why) {
        if (c->min > c->max) {
                result_set(why, RESULT_INVALID, "option min=%" PRIu64 ": more than max=%" PRIu64, c->min, c->max);
                return -EINVAL;
        }
        if (!*c->base) {
                result_set(why, RESULT_INVALID, "option base: expected an absolute path");
                return -EINVAL;
        }
        return 0;
}

static json_t *value_to_json(const struct config *c, const struct option *o) {
        const void *at = field(c, o);

        switch (o->type) {
        case TYPE_NUMBER:
        case TYPE_BYTES:
                return json_integer(*(const uint64_t *)at);
        case TYPE_SECONDS:
                if (*(const int64_t *)at % USEC_PER_SEC == 0)
                        return json_integer(*(const int64_t *)at / USEC_PER_SEC);
                return json_real((double)*(const int64_t *)at / USEC_PER_SEC);
        case TYPE_BOOL:
                return json_boolean(*(const bool *)at);
        case TYPE_CHOICE:
                return json_string(o->words[*(const unsigned *)at]);
        case TYPE_TEXT:
        case TYPE_PATH:
        case TYPE_ENV:
                if (o->secret && **(char *const *)at)
                        return json_string("***");
                return json_string(*(char *const *)at);
        }
        return NULL;
}

int config_render(const struct config *c, struct buf *out) {
        static const char *const sources[] = {
                [CONFIG_DEFAULT] = "default",
                [CONFIG_FILE] = "file",
                [CONFIG_ENVIRONMENT] = "environment",
                [CONFIG_COMMAND_LINE] = "command line",
                [CONFIG_CTL] = "ctl",
        };
        json_t *root = json_object();
        _cleanup_(cleanup_free) char *text = NULL;

        for (size_t i = 0; i < N_OPTIONS; i++)
                json_object_set_new(root, options[i].name,
                                    json_pack("{s:o?, s:s}", "value", value_to_json(c, &options[i]), "source",
                                              sources[c->source[i]]));
        text = json_dumps(root, JSON_INDENT(2));
        json_decref(root);
        return text ? buf_printf(out, "%s\n", text) : -ENOMEM;
}

int config_render_help(struct buf *out) {
        int r = 0;

        for (size_t i = 0; i < N_OPTIONS && r == 0; i++)
                r = buf_printf(out, "  %-14s %s%s%s%s\n", options[i].name, options[i].help,
                               *options[i].initial ? " (" : "", options[i].initial,
                               *options[i].initial ? ")" : "");
        return r;
}
