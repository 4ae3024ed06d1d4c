/* SPDX-License-Identifier: MIT */
#include "fs/daemon/backends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/backend/dry/dry.h"
#include "pool/backend/fault.h"
#include "pool/backend/local/local.h"
#include "pool/backend/modal/modal.h"
#include "pool/helper/helper.h"
#include "pool/util/cleanup.h"

/* the backends */

/* In the build tree the program is beside us, otherwise where it was installed. */
static char *find_helper(void) {
        char self[4096], *path = NULL;
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

        if (n > 0) {
                self[n] = '\0';
                *strrchr(self, '/') = '\0';
                if (asprintf(&path, "%s/../pool/modalpool-helper", self) < 0)
                        return NULL;
                if (access(path, R_OK) == 0)
                        return path;
                free(path);
        }
        return strdup(MODALPOOL_LIBEXECDIR "/modalpool-helper");
}

static int connect_local(struct backend_client **out, uv_loop_t *loop, const struct config *c, struct result *why) {
        _cleanup_(cleanup_free) char *helper = find_helper();

        return helper ? local_client_new(out, loop, helper) : -ENOMEM;
}

static int open_local(struct backend **out, struct backend_client *client, const struct config *c,
                      const struct backend_setup *setup, struct result *why) {
        /* Who says how long means it for those that keep leaves, too. */
        return local_new(out, client, config_values(c, &local_options), setup, config_is_default(c, "orphan_timeout"));
}

static int connect_modal(struct backend_client **out, uv_loop_t *loop, const struct config *c, struct result *why) {
        return modal_client_new(out, loop, config_values(c, &modal_client_options), why);
}

static int open_modal(struct backend **out, struct backend_client *client, const struct config *c,
                      const struct backend_setup *setup, struct result *why) {
        return modal_new(out, client, config_values(c, &modal_options), setup, why);
}

static int connect_dry(struct backend_client **out, uv_loop_t *loop, const struct config *c, struct result *why) {
        return dry_client_new(out, loop);
}

static int open_dry(struct backend **out, struct backend_client *client, const struct config *c,
                    const struct backend_setup *setup, struct result *why) {
        return dry_new(out, client, config_values(c, &dry_options));
}

static const struct provider {
        bool takes_helper; /* one is put into its sandboxes; else they have one, or are none */
        bool has_credentials;
        bool has_readiness; /* it obeys option ready */
        int (*connect)(struct backend_client **out, uv_loop_t *loop, const struct config *c, struct result *why);
        int (*open)(struct backend **out, struct backend_client *client, const struct config *c,
                    const struct backend_setup *setup, struct result *why);
} providers[] = {
        { .connect = connect_local, .open = open_local },
        { .takes_helper = true, .has_credentials = true, .has_readiness = true, .connect = connect_modal, .open = open_modal },
        { .connect = connect_dry, .open = open_dry },
};
static const char *const names[] = { "local", "modal", "dry", NULL };

/* the options that choose among them */

struct provider_options {
        unsigned backend; /* of the above */
        char *fault;      /* "" for none */
        uint64_t fault_seed;
};

#define AT(field) offsetof(struct provider_options, field)

static const struct option_row rows[] = {
        { "backend", OPTION_CHOICE, AT(backend), "local", OPTION_WORDS("TERMINAL_ENV"), .words = names,
          .foreign = OPTION_WORDS("docker", "ssh", "singularity", "daytona", "vercel_sandbox"),
          .help = "who provides sandboxes" },
        { "fault", OPTION_TEXT, AT(fault), "",
          .help = "inject faults: KIND:RATE joined by +; kinds create, refuse, clean, change, idle, death, delay, snapshot" },
        { "fault_seed", OPTION_NUMBER, AT(fault_seed), "1", NULL, 0, INT64_MAX, .help = "which faults" },
};

static const struct option_table provider_options = OPTION_TABLE(struct provider_options, NULL, rows);

const struct option_table *const provider_tables[] = {
        &provider_options, &helper_options, &local_options, &modal_options, &modal_client_options, &dry_options, NULL,
};

static const struct provider_options *chosen(const struct config *config) {
        return config_values(config, &provider_options);
}

const char *provider_name(const struct config *config) {
        return names[chosen(config)->backend];
}

bool provider_has_credentials(const struct config *config) {
        return providers[chosen(config)->backend].has_credentials;
}

int provider_connect(struct backend_client **out, uv_loop_t *loop, const struct config *config, struct result *why) {
        return providers[chosen(config)->backend].connect(out, loop, config, why);
}

static int put_helper_over(struct backend **b, uv_loop_t *loop, const struct config *config,
                           const struct backend_setup *setup, struct result *why) {
        static struct helper_program program; /* for as long as this process lives */
        const struct helper_options *options = config_values(config, &helper_options);
        bool takes = providers[chosen(config)->backend].takes_helper && options->use != HELPER_NO;
        _cleanup_(cleanup_free) char *path = takes ? find_helper() : NULL;

        if (takes && !path)
                return -ENOMEM;
        if (takes && !program.upload.bytes)
                helper_program_read(&program, path);
        return helper_new(b, loop, options, setup, &program, why);
}

int provider_open(struct backend **out, struct backend_client *client, uv_loop_t *loop, const struct config *config,
                  const char *snapshot, const struct state *state, const char *pool_id, const char *mountpoint,
                  struct result *why) {
        const struct provider_options *o = chosen(config);
        const struct backend_setup setup = {
                .shell = config->shell,
                .base = config->base,
                .ready = config->ready,
                .dir = state->environments,
                .snapshots = state->snapshots,
                .pool_id = pool_id,
                .mountpoint = mountpoint,
                .snapshot = snapshot,
                .epoch = state->epoch,
                .compare = config->reset == RESET_CLEAN,
                .emptied = config->emptied,
                .unwatched = config->unwatched,
        };
        int r;

        if (*config->ready && !providers[o->backend].has_readiness) {
                result_set(why, RESULT_INVALID, "option ready=%s: backend %s has no readiness probes; modal has", config->ready,
                           names[o->backend]);
                return -EINVAL;
        }
        r = providers[o->backend].open(out, client, config, &setup, why);
        if (r == 0)
                r = put_helper_over(out, loop, config, &setup, why);
        if (r == 0 && *o->fault)
                r = fault_new(out, loop, o->fault, o->fault_seed, why);
        return r;
}
