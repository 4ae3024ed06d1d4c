/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The configuration: the core's own options, the values of all other tables of options, and the source of each value.
 *
 * The command line takes precedence over the environment, the environment over
 * the file, the file over the default. Values are checked when they are set;
 * the result for a wrong one names the option, the value and what is expected.
 * config_render() shows no secrets.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/base/option.h"
#include "pool/util/buf.h"
#include "pool/util/result.h"

enum mode {
        MODE_POOL,   /* environments are lent again */
        MODE_DIRECT, /* each lease has an environment of its own, which ends with it */
};

enum reset {
        RESET_CLEAN,       /* a lease has an environment that is as it was when it became ready */
        RESET_ENVIRONMENT, /* each lease has an environment that nobody used before */
        RESET_WORKDIR,     /* a lease's processes and workdir are removed, the rest of its environment stays */
};

enum config_source {
        CONFIG_DEFAULT,
        CONFIG_MOUNT, /* of a pool: what the mount had when the pool was made */
        CONFIG_FILE,
        CONFIG_ENVIRONMENT,
        CONFIG_COMMAND_LINE,
        CONFIG_CTL, /* changed through .pool/ctl while mounted */
};

#define CONFIG_OPTIONS_MAX 96 /* rows of all tables */
#define CONFIG_TABLES_MAX 8

#define CONFIG_WORKDIRS "hermes_tasks" /* the directory below base= that has the workdirs of leases */

struct config {
        /* the pool */
        unsigned mode;
        uint64_t max, min, max_leases;
        int64_t wait_us;
        bool oversubscribe;
        uint64_t max_per_user; /* environments that leases of one user hold at one time; 0: any number */
        uint64_t creates; /* environments in creation at one time */
        uint64_t create_rate; /* creates a second; 0: no maximum */
        uint64_t max_total; /* environments of all pools; 0: no maximum */
        uint64_t builds; /* templates of pools that start at one time */
        int64_t held_warning_us; /* 0: never */
        int64_t stop_timeout_us;
        unsigned reset;
        char *emptied, *unwatched; /* with RESET_CLEAN: paths, joined by ":" */
        uint64_t max_uses;       /* 0: no maximum */
        int64_t idle_timeout_us; /* 0: never */
        int64_t max_lifetime_us; /* 0: as long as the provider lets it live */
        int64_t min_life_us;
        int64_t keepalive_us; /* 0: never */
        int64_t probe_timeout_us;
        char *ready; /* an environment is lent once this succeeded: "tcp:PORT" or a command; "" for none */

        /* jobs */
        char *base;
        char *workdir;      /* of every lease, as it is in the image; "": BASE/hermes_tasks/NAME */
        char *shell;
        int64_t timeout_us; /* 0: none */
        int64_t kill_grace_us; /* 0: none */
        char *env;          /* lines KEY=VALUE, "" for none */
        uint64_t output_max, history, jobs_max, connections_max;
        int64_t file_timeout_us;
        uint64_t spool_max, spool_max_per_user; /* 0: no maximum */

        /* the daemon */
        char *state;
        char *audit; /* file to which a line for each job is appended; "" */
        unsigned log_level; /* 0 error … 3 debug */
        bool allow_other;
        bool keep;

        json_t *pools; /* that the file names: an object, name to an object of options as texts; NULL: none */

        /* the other tables, and a struct of values for each */
        const struct option_table *tables[CONFIG_TABLES_MAX + 1]; /* NULL ends them */
        void *values[CONFIG_TABLES_MAX];

        enum config_source source[CONFIG_OPTIONS_MAX]; /* by row: the core's, then those of each table */
};

/*
 * Defaults of the core's options and of @tables, which NULL ends; NULL: there are no others. The tables are borrowed.
 * No two rows may have one name. 0 or -ENOMEM.
 */
int config_init(struct config *c, const struct option_table *const *tables);
void config_deinit(struct config *c);

/* A copy with the same values, all of source CONFIG_MOUNT, and without the pools. 0 or -ENOMEM. */
int config_copy(struct config *out, const struct config *from);

/* The values of one of the tables, in its own struct. */
const void *config_values(const struct config *c, const struct option_table *table);

/* The row of this name; NULL: there is none. */
const struct option_row *config_find_row(const struct config *c, const char *name);

/* The row of number @i; NULL behind the last. */
const struct option_row *config_row(const struct config *c, size_t i);

/* Nobody has set this option. */
bool config_is_default(const struct config *c, const char *name);

/*
 * Set an option. A value from a source of lower precedence than the present
 * one is checked and ignored. @value may be NULL for a switch. -EINVAL with
 * @why filled in; -ENOENT, likewise, for an unknown option.
 */
int config_set(struct config *c, const char *name, const char *value, enum config_source source,
               struct result *why);

/*
 * Set options from the process environment. Some variables are shared with Hermes-Agent; a value that only it
 * understands is ignored, with a line in the log.
 */
int config_read_environment(struct config *c, struct result *why);

/* A JSON object, option name to value; and "pools", which are kept as they are. */
int config_read_file(struct config *c, const char *path, struct result *why);

/* Check combinations of options, once all are set. */
int config_check(const struct config *c, struct result *why);

/*
 * Whether @workdir was made for one lease, so that it may be emptied and removed. Else option workdir names it, now or in
 * an earlier run, and it is part of the environment.
 */
bool config_owns_workdir(const char *workdir);

/* JSON: {"max": {"value": 4, "source": "default"}, …}. 0 or -errno. */
int config_render(const struct config *c, struct buf *out);

/* One line an option, for --help and for the completion: "  NAME=TAKES  OF: help (default)". */
int config_render_help(const struct config *c, struct buf *out);
