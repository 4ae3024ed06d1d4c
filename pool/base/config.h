/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The configuration: one table of options, and where each value came from.
 *
 * Command line over environment over file over default. A value is checked
 * when it is set; a wrong one is a result that names the option, the value
 * and what would be right. Secrets never leave through config_render().
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/util/buf.h"
#include "pool/util/result.h"

enum mode {
        MODE_POOL,   /* environments are lent again */
        MODE_DIRECT, /* each lease has one of its own, ended with it */
};

enum reset {
        RESET_WORKDIR,     /* a lease's processes and workdir are removed, the rest of its environment stays */
        RESET_ENVIRONMENT, /* each lease has an environment that nobody used before */
};

enum isolate {
        ISOLATE_BWRAP,
        ISOLATE_NONE,
};

enum config_source {
        CONFIG_DEFAULT,
        CONFIG_FILE,
        CONFIG_ENVIRONMENT,
        CONFIG_COMMAND_LINE,
        CONFIG_CTL, /* changed through .pool/ctl while mounted */
};

#define CONFIG_OPTIONS_MAX 64 /* rows of the table */

struct config {
        /* the pool */
        char *backend;
        unsigned mode;
        uint64_t max, min, max_leases;
        int64_t wait_us;
        bool oversubscribe;
        uint64_t max_per_user; /* environments that leases of one user hold at one time; 0: any number */
        uint64_t creates; /* environments in creation at one time */
        int64_t held_warning_us; /* 0: never */
        int64_t stop_timeout_us;
        unsigned reset;
        uint64_t max_uses;       /* 0: no maximum */
        int64_t idle_timeout_us; /* 0: never */
        int64_t max_lifetime_us; /* 0: as long as the provider lets it live */
        int64_t min_life_us;
        int64_t keepalive_us; /* 0: never */
        int64_t probe_timeout_us;

        /* jobs */
        char *base;
        char *shell;
        int64_t timeout_us; /* 0: none */
        int64_t kill_grace_us; /* 0: none */
        char *env;          /* lines KEY=VALUE, "" for none */
        uint64_t output_max, history;

        /* the local backend */
        unsigned isolate;
        bool network;
        uint64_t size;

        /* the Modal backend; "" is Modal's own default, or what ~/.modal.toml says */
        char *modal_config, *profile, *server_url, *token_id, *token_secret, *modal_environment, *cafile;
        char *app, *image, *dockerfile, *cpu, *gpu, *region, *cloud, *secrets, *volumes, *cidr_allowlist;
        uint64_t memory;
        bool block_network;
        int64_t lifetime_us, modal_idle_us;

        /* injected faults, "" for none */
        char *fault;
        uint64_t fault_seed;

        /* the daemon */
        char *state;
        unsigned log_level; /* 0 error … 3 debug */
        bool allow_other;
        bool keep;

        enum config_source source[CONFIG_OPTIONS_MAX]; /* by row of the table */
};

/* Defaults. 0 or -ENOMEM. */
int config_init(struct config *c);
void config_deinit(struct config *c);

/*
 * Set one option by its name; a value of lower rank than the one that stands
 * is checked and ignored. A switch may come without a value (NULL). -EINVAL
 * with @why filled in; -ENOENT, likewise, for a name that is no option.
 */
int config_set(struct config *c, const char *name, const char *value, enum config_source source,
               struct result *why);

/*
 * Everything in the process environment that belongs to an option. A value that means something to Hermes-Agent only,
 * with which some variables are shared, is passed over with a line in the log.
 */
int config_read_environment(struct config *c, struct result *why);

/* A JSON object, option name to value. */
int config_read_file(struct config *c, const char *path, struct result *why);

/* What concerns more than one option, once all are set. */
int config_check(const struct config *c, struct result *why);

/* JSON: {"max": {"value": 4, "source": "default"}, …}. 0 or -errno. */
int config_render(const struct config *c, struct buf *out);

/* One line an option, for --help. */
int config_render_help(struct buf *out);

/* lines KEY=VALUE: -EINVAL with @why for a line that is none. */
int config_check_env(const char *lines, struct result *why);
