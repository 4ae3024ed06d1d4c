/* SPDX-License-Identifier: MIT */
#pragma once

/* The command line, for people and for mount(8). */

#include <stdbool.h>

#include "pool/base/config.h"

struct options {
        char *mountpoint; /* absolute */
        bool foreground;
        bool debug;
        bool fake; /* mount -f: do everything but mount */
        bool reap; /* end what an earlier run left, without mounting */
        bool dry_run; /* … or only print what that would end */
};

/*
 * Read the command line, the environment and the configuration file into
 * @config, which was initialised. 0: continue. 1: done (help, version). -errno
 * with @why filled in.
 */
int options_read(struct options *o, struct config *config, int argc, char **argv, struct result *why);
void options_deinit(struct options *o);
