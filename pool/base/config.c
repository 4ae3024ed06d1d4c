/* SPDX-License-Identifier: MIT */
#include "pool/base/config.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/log.h"

#define HELP_COLUMN 26 /* where the sentences of the help begin */

#define AT(field) offsetof(struct config, field)

static const struct option_row core_rows[] = {
        { "mode", OPTION_CHOICE, AT(mode), "pool", OPTION_WORDS("TERMINAL_MODAL_MODE"),
          .words = OPTION_WORDS("pool", "direct"),
          .foreign = OPTION_WORDS("auto", "managed"),
          .help = "lend environments again, or give each lease one of its own" },
        { "max", OPTION_NUMBER, AT(max), "4", OPTION_WORDS("TERMINAL_MODAL_POOL_MAX", "TERMINAL_MODAL_POOL_SIZE"),
          1, ENVIRONMENTS_MAX, .scope = OPTION_OF_OWNER, .live = true,
          .help = "environments at most" },
        { "min", OPTION_NUMBER, AT(min), "0", NULL, 0, ENVIRONMENTS_MAX, .scope = OPTION_OF_OWNER, .live = true,
          .help = "environments kept idle and ready" },
        { "max_total", OPTION_NUMBER, AT(max_total), "0", NULL, 0, ENVIRONMENTS_MAX, .live = true,
          .help = "environments of all pools of the mount, in whatever state; 0: any number" },
        { "max_leases", OPTION_NUMBER, AT(max_leases), "4096", NULL, 1, LEASES_MAX,
          .help = "leases at most" },
        { "wait", OPTION_SECONDS, AT(wait_us), "300", .scope = OPTION_OF_OWNER, .live = true,
          .help = "how long a lease waits for an environment" },
        { "oversubscribe", OPTION_BOOL, AT(oversubscribe), "yes", .live = true,
          .help = "after that, one environment over max; else the lease fails" },
        { "creates", OPTION_NUMBER, AT(creates), "16", NULL, 1, CREATES_MAX, .live = true,
          .help = "environments in creation at one time" },
        { "create_rate", OPTION_NUMBER, AT(create_rate), "0", NULL, 0, CREATE_RATE_MAX,
          .live = true, .help = "creates of environments a second, evenly paced; 0: any number" },
        { "builds", OPTION_NUMBER, AT(builds), "4", NULL, 1, CREATES_MAX,
          .help = "pools whose images are looked up or built at one time" },
        { "max_per_user", OPTION_NUMBER, AT(max_per_user), "0", NULL, 0, ENVIRONMENTS_MAX,
          .help = "environments that the leases of one user hold at most, 0: any number" },
        { "held_warning", OPTION_SECONDS, AT(held_warning_us), "3600",
          .help = "the log names leases that hold an environment so long without a job, 0: never" },
        { "stop_timeout", OPTION_SECONDS, AT(stop_timeout_us), "20",
          .help = "how long ending all environments may take" },
        { "reset", OPTION_CHOICE, AT(reset), "clean", .words = OPTION_WORDS("clean", "environment", "workdir"),
          .scope = OPTION_OF_OWNER,
          .help = "what each lease finds as it was" },
        { "emptied", OPTION_PATHS, AT(emptied), "/tmp:/var/tmp:/dev/shm:/run/user",
          .help = "reset=clean: directories that are emptied after each lease" },
        { "unwatched", OPTION_PATHS, AT(unwatched), "",
          .help = "reset=clean: paths that pass to the next lease as they are" },
        { "max_uses", OPTION_NUMBER, AT(max_uses), "0", NULL, 0, INT64_MAX, .live = true,
          .help = "leases that one environment serves, 0: any number" },
        { "idle_timeout", OPTION_SECONDS, AT(idle_timeout_us), "600", .scope = OPTION_OF_OWNER, .live = true,
          .help = "an idle environment over min is ended after that and up to a tenth more, 0: never" },
        { "keepalive", OPTION_SECONDS, AT(keepalive_us), "60", .live = true,
          .help = "an environment idle that long is asked whether it still works, 0: never" },
        { "probe_timeout", OPTION_SECONDS, AT(probe_timeout_us), "10", NULL, PROBE_TIMEOUT_MIN_US,
          .live = true,
          .help = "how long its answer may take; two that fail in a row end it" },
        { "max_lifetime", OPTION_SECONDS, AT(max_lifetime_us), "0", .live = true,
          .help = "age at which an environment is ended, 0: the provider's own" },
        { "min_life", OPTION_SECONDS, AT(min_life_us), "300", .live = true,
          .help = "an environment with less left to live is not lent, but for its first half" },
        { "base", OPTION_PATH, AT(base), "/root", OPTION_WORDS("TERMINAL_CWD"),
          .foreign = OPTION_WORDS(".", "~", "auto", "cwd"),
          .help = "workdirs are BASE/hermes_tasks/NAME" },
        { "workdir", OPTION_PATH, AT(workdir), "", .scope = OPTION_OF_OWNER,
          .help = "the workdir of every lease, never emptied; each environment then serves one lease" },
        { "shell", OPTION_TEXT, AT(shell), "",
          .help = "what runs commands; empty: bash, else sh" },
        { "ready", OPTION_TEXT, AT(ready), "",
          .help = "Modal: an environment is lent once tcp:PORT is open, or once this command succeeds" },
        { "timeout", OPTION_SECONDS, AT(timeout_us), "180", OPTION_WORDS("TERMINAL_TIMEOUT"),
          .scope = OPTION_OF_OWNER,
          .help = "for a job, 0: none" },
        { "kill_grace", OPTION_SECONDS, AT(kill_grace_us), "1",
          .help = "after its timeout a job gets TERM, and so much later KILL" },
        { "env", OPTION_ENV, AT(env), "", .secret = true, .scope = OPTION_OF_OWNER,
          .help = "KEY=VALUE for every job; may be repeated" },
        { "output_max", OPTION_BYTES, AT(output_max), "1G", NULL, 1, INT64_MAX,
          .help = "bytes of output of one job" },
        { "spool_max", OPTION_BYTES, AT(spool_max), "0", NULL, 0, INT64_MAX,
          .help = "bytes of commands, input and output that the pool keeps on disk, 0: what the disk holds" },
        { "spool_max_per_user", OPTION_BYTES, AT(spool_max_per_user), "0", NULL, 0, INT64_MAX,
          .help = "of these, bytes of one user, 0: no maximum of its own" },
        { "jobs_max", OPTION_NUMBER, AT(jobs_max), "16", NULL, 1, JOBS_AT_ONCE_MAX,
          .help = "jobs that run side by side in one lease" },
        { "connections_max", OPTION_NUMBER, AT(connections_max), "256", NULL, 1, CONNECTIONS_MAX,
          .help = "connections to ports, and watches, that are open in one lease" },
        { "file_timeout", OPTION_SECONDS, AT(file_timeout_us), "30", NULL, USEC_PER_SEC, .live = true,
          .help = "how long a call about a file below root/ may take" },
        { "history", OPTION_NUMBER, AT(history), "256", NULL, 1, 100000,
          .help = "finished jobs kept readable in a lease" },
        { "state", OPTION_FILE, AT(state), "", .help = "directory for the journal and for output" },
        { "log", OPTION_CHOICE, AT(log_level), "info", .words = OPTION_WORDS("error", "warning", "info", "debug"),
          .help = "least important message that is logged" },
        { "audit", OPTION_FILE, AT(audit), "",
          .help = "append a JSON line for each job to this file" },
        { "keep", OPTION_BOOL, AT(keep), "no",
          .help = "when stopping, leave environments and leases for the next mount here" },
        { "allow_other", OPTION_BOOL, AT(allow_other), "no", .help = "let other users make leases of their own" },
};

/* Its struct is struct config itself, which may be copied: so there is no pointer to it. */
static const struct option_table core_options = OPTION_TABLE(struct config, NULL, core_rows);

/* An option: its row, the number of that among all, and the struct with its value. */
struct option_at {
        const struct option_row *row;
        const char *of;
        size_t number;
        void *values;
};

/* Move @at to the next option; one that is all zeros stands before the first. */
static bool next_option(const struct config *c, struct option_at *at) {
        size_t i = at->row ? at->number + 1 : 0;
        const struct option_table *table = &core_options;
        void *values = (void *)c;

        at->number = i;
        for (size_t t = 0; i >= table->n_rows; t++) {
                if (t == CONFIG_TABLES_MAX || !c->tables[t])
                        return false;
                i -= table->n_rows;
                table = c->tables[t];
                values = c->values[t];
        }
        at->row = &table->rows[i];
        at->of = table->of;
        at->values = values;
        return true;
}

const struct option_row *config_row(const struct config *c, size_t i) {
        /* The one before it, if any, makes it the next. */
        struct option_at at = { .row = i > 0 ? core_rows : NULL, .number = i > 0 ? i - 1 : 0 };

        return next_option(c, &at) ? at.row : NULL;
}

const struct option_row *config_find_row(const struct config *c, const char *name) {
        struct option_at at = {};

        while (next_option(c, &at))
                if (!strcmp(at.row->name, name))
                        return at.row;
        return NULL;
}

const void *config_values(const struct config *c, const struct option_table *table) {
        for (size_t t = 0; t < CONFIG_TABLES_MAX && c->tables[t]; t++)
                if (c->tables[t] == table)
                        return c->values[t];
        return NULL;
}

/* Each table's struct, all zeros. */
static int take_tables(struct config *c, const struct option_table *const *tables) {
        size_t n_rows = core_options.n_rows;

        for (size_t t = 0; tables && tables[t]; t++) {
                assert(t < CONFIG_TABLES_MAX);
                n_rows += tables[t]->n_rows;
                assert(n_rows <= CONFIG_OPTIONS_MAX);
                c->values[t] = calloc(1, tables[t]->size);
                if (!c->values[t])
                        return -ENOMEM;
                c->tables[t] = tables[t];
        }
        return 0;
}

int config_init(struct config *c, const struct option_table *const *tables) {
        struct option_at at = {};
        struct result why;
        int r;

        *c = (struct config){};
        r = take_tables(c, tables);
        while (r == 0 && next_option(c, &at))
                r = option_parse(at.row, at.values, at.row->initial, false, &why);
        if (r < 0)
                config_deinit(c);
        return r;
}

void config_deinit(struct config *c) {
        struct option_at at = {};

        while (next_option(c, &at))
                option_free(at.row, at.values);
        for (size_t t = 0; t < CONFIG_TABLES_MAX; t++)
                free(c->values[t]);
        json_decref(c->pools);
        *c = (struct config){};
}

int config_copy(struct config *out, const struct config *from) {
        struct option_at to = {}, at = {};
        int r;

        *out = (struct config){};
        r = take_tables(out, from->tables);
        while (r == 0 && next_option(from, &at) && next_option(out, &to))
                r = option_copy(at.row, to.values, at.values);
        for (size_t i = 0; i < CONFIG_OPTIONS_MAX; i++)
                out->source[i] = CONFIG_MOUNT;
        if (r < 0)
                config_deinit(out);
        return r;
}

bool config_is_default(const struct config *c, const char *name) {
        struct option_at at = {};

        while (next_option(c, &at))
                if (!strcmp(at.row->name, name))
                        return c->source[at.number] == CONFIG_DEFAULT;
        return false;
}

int config_set(struct config *c, const char *name, const char *value, enum config_source source,
               struct result *why) {
        struct option_at at = {};
        enum config_source *from;
        int r;

        do
                if (!next_option(c, &at)) {
                        result_set(why, RESULT_INVALID, "%s is no option; modalpool -h lists them", name);
                        return -ENOENT;
                }
        while (strcmp(at.row->name, name));
        if (at.row->secret && at.row->variables && source == CONFIG_COMMAND_LINE) {
                result_set(why, RESULT_INVALID, "option %s: every user of this machine can read a command line; "
                           "set it in the environment (%s) or in a file", name, at.row->variables[0]);
                return -EINVAL;
        }
        if (!value && at.row->type != OPTION_BOOL)
                return option_invalid(at.row, "", "a value", why);
        if (!value)
                value = "yes";

        from = &c->source[at.number];
        if (source < *from)
                return option_parse(at.row, NULL, value, false, why);
        r = option_parse(at.row, at.values, value, source == *from, why);
        if (r == -ENOMEM)
                result_set(why, RESULT_FAILED, "option %s: out of memory", name);
        if (r == 0)
                *from = source;
        return r;
}

/* The first of its variables that is set and means something here. */
static int read_variables(struct config *c, const struct option_row *o, struct result *why) {
        for (const char *const *v = o->variables; v && *v; v++) {
                char *value = getenv(*v);
                struct result inner;
                int r;

                if (!value || !*value)
                        continue;
                if (option_find_word(o->foreign, value) >= 0) {
                        log_info("environment variable %s=%s: means something to Hermes-Agent only, passed over", *v,
                                 value);
                        continue;
                }
                r = config_set(c, o->name, value, CONFIG_ENVIRONMENT, &inner);
                if (o->secret) {
                        /* Wipe it, so that no child and no reader of /proc finds it. */
                        explicit_bzero(value, strlen(value));
                        unsetenv(*v);
                }
                if (r < 0)
                        result_set(why, inner.code, "environment variable %s: %s", *v, inner.text);
                return r;
        }
        return 0;
}

int config_read_environment(struct config *c, struct result *why) {
        struct option_at at = {};
        int r = 0;

        while (r == 0 && next_option(c, &at))
                r = read_variables(c, at.row, why);
        return r;
}

/* A scalar as the command line would have it; NULL for anything else. */
static const char *text_of_json(const json_t *value, char text[static 64]) {
        switch (json_typeof(value)) {
        case JSON_STRING:
                return json_string_value(value);
        case JSON_INTEGER:
                snprintf(text, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
                return text;
        case JSON_REAL:
                snprintf(text, 64, "%.6f", json_real_value(value));
                return text;
        case JSON_TRUE:
        case JSON_FALSE:
                return json_is_true(value) ? "yes" : "no";
        default:
                return NULL;
        }
}

static int not_a_scalar(const char *name, struct result *why) {
        result_set(why, RESULT_INVALID, "%s: expected a string, a number, true or false", name);
        return -EINVAL;
}

/* "pools": {"NAME": {"OPTION": VALUE, …}, …}. What the options are worth is for those who make the pools. */
static int read_pools(struct config *c, json_t *value, struct result *why) {
        const char *pool, *name;
        json_t *options, *one;
        char text[64];

        json_object_foreach (value, pool, options) {
                if (!json_is_object(options))
                        break;
                json_object_foreach (options, name, one)
                        if (!text_of_json(one, text))
                                return not_a_scalar(name, why);
                        else
                                json_object_set_new(options, name, json_string(text_of_json(one, text)));
        }
        if (!json_is_object(value) || (json_object_size(value) > 0 && !json_is_object(options))) {
                result_set(why, RESULT_INVALID, "pools: expected an object, name to an object of options");
                return -EINVAL;
        }
        c->pools = json_incref(value);
        return 0;
}

static int set_from_json(struct config *c, const char *name, json_t *value, struct result *why) {
        char text[64];
        const char *as_text = text_of_json(value, text);

        if (!strcmp(name, "pools"))
                return read_pools(c, value, why);
        return as_text ? config_set(c, name, as_text, CONFIG_FILE, why) : not_a_scalar(name, why);
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

bool config_owns_workdir(const char *workdir) {
        return strstr(workdir, "/" CONFIG_WORKDIRS "/") != NULL;
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
        if (config_owns_workdir(c->workdir)) {
                result_set(why, RESULT_INVALID, "option workdir=%s: " CONFIG_WORKDIRS " is for workdirs of single leases",
                           c->workdir);
                return -EINVAL;
        }
        return 0;
}

int config_render(const struct config *c, struct buf *out) {
        static const char *const sources[] = {
                [CONFIG_DEFAULT] = "default",
                [CONFIG_MOUNT] = "mount",
                [CONFIG_FILE] = "file",
                [CONFIG_ENVIRONMENT] = "environment",
                [CONFIG_COMMAND_LINE] = "command line",
                [CONFIG_CTL] = "ctl",
        };
        json_t *root = json_object();
        _cleanup_(cleanup_free) char *text = NULL;
        struct option_at at = {};

        while (next_option(c, &at))
                json_object_set_new(root, at.row->name,
                                    json_pack("{s:o?, s:s}", "value", option_to_json(at.row, at.values), "source",
                                              sources[c->source[at.number]]));
        text = json_dumps(root, JSON_INDENT(2));
        json_decref(root);
        return text ? buf_printf(out, "%s\n", text) : -ENOMEM;
}

int config_render_help(const struct config *c, struct buf *out) {
        struct option_at at = {};
        int r = 0;

        while (r == 0 && next_option(c, &at)) {
                char takes[OPTION_TAKES_SIZE];
                const char *initial = at.row->initial;
                int width = (int)strlen(at.row->name) + 1;

                width = width < HELP_COLUMN ? HELP_COLUMN - width : 0;
                r = buf_printf(out, "  %s=%-*s %s%s%s%s%s%s\n", at.row->name, width,
                               option_takes(at.row, takes), at.of ? at.of : "", at.of ? ": " : "", at.row->help,
                               *initial ? " (" : "", initial, *initial ? ")" : "");
        }
        return r;
}
