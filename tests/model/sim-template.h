/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The backend of a pool beside the mount's own, over the same simulated provider. Its start takes a while, and may fail.
 */

#include "sim-backend.h"
#include "pool/base/config.h"

struct sim_templates {
        struct sim_backend *provider;
        struct list list; /* of those that are not freed, oldest first */
        unsigned n_starting, n_starting_most;
        uint64_t n_made;
        bool refused; /* starts fail from now on: the image cannot be built */
};

struct sim_template {
        struct backend backend; /* first */
        struct sim_templates *all;
        struct list link;
        struct timer started;
        bool starting;
        char snapshot[SNAPSHOT_IMAGE_MAX];
};

void sim_templates_init(struct sim_templates *all, struct sim_backend *provider);

/* As core_parts.open; @owner is the struct sim_templates. */
int sim_template_open(void *owner, const struct config *config, const char *snapshot, struct backend **out,
                      struct result *why);
