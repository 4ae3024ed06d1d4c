/* SPDX-License-Identifier: MIT */
#include "fs/daemon/backends.h"

#include <errno.h>
#include <string.h>

#include "pool/backend/fault.h"
#include "pool/backend/local/local.h"
#include "pool/backend/modal/modal.h"

static int connect_modal(struct backend_client **out, uv_loop_t *loop, const struct config *c, struct result *why) {
        return modal_client_new(out, loop,
                                &(struct modal_client_options){
                                        .config_file = c->modal_config,
                                        .profile = c->profile,
                                        .server_url = c->server_url,
                                        .token_id = c->token_id,
                                        .token_secret = c->token_secret,
                                        .environment = c->modal_environment,
                                        .cafile = c->cafile,
                                },
                                why);
}

static int open_modal(struct backend **out, struct backend_client *client, const struct config *c, const char *pool_id,
                      const char *mountpoint, struct result *why) {
        return modal_new(out, client,
                         &(struct modal_options){
                                 .app = c->app,
                                 .image = c->image,
                                 .dockerfile = c->dockerfile,
                                 .shell = c->shell,
                                 .cpu = c->cpu,
                                 .memory = c->memory,
                                 .gpu = c->gpu,
                                 .region = c->region,
                                 .cloud = c->cloud,
                                 .secrets = c->secrets,
                                 .volumes = c->volumes,
                                 .block_network = c->block_network,
                                 .cidr_allowlist = c->cidr_allowlist,
                                 .lifetime_us = c->lifetime_us,
                                 .idle_timeout_us = c->modal_idle_us,
                                 .pool_id = pool_id,
                                 .mountpoint = mountpoint,
                         },
                         why);
}

static int open_local(struct backend **out, struct backend_client *client, const struct config *c,
                      const struct state *state) {
        return local_new(out, client,
                         &(struct local_options){
                                 .isolate = c->isolate == ISOLATE_BWRAP,
                                 .network = c->network,
                                 .size = c->size,
                                 .base = c->base,
                                 .shell = c->shell,
                                 .dir = state->environments,
                         });
}

static bool is_modal(const struct config *c) {
        return !strcmp(c->backend, "modal");
}

int provider_connect(struct backend_client **out, uv_loop_t *loop, const struct config *config, struct result *why) {
        return is_modal(config) ? connect_modal(out, loop, config, why) : local_client_new(out, loop);
}

int provider_open(struct backend **out, struct backend_client *client, uv_loop_t *loop, const struct config *config,
                  const struct state *state, const char *pool_id, const char *mountpoint, struct result *why) {
        int r;

        if (is_modal(config))
                r = open_modal(out, client, config, pool_id, mountpoint, why);
        else
                r = open_local(out, client, config, state);
        if (r == 0 && *config->fault)
                r = fault_new(out, loop, config->fault, config->fault_seed, why);
        return r;
}
