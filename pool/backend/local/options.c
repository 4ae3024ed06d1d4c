/* SPDX-License-Identifier: MIT */
#include "pool/backend/local/internal.h"

#define AT(field) offsetof(struct local_options, field)

static const struct option_row rows[] = {
        { "isolate", OPTION_CHOICE, AT(isolate), "bwrap", .words = OPTION_WORDS("bwrap", "none"),
          .help = "how environments are kept apart" },
        { "network", OPTION_BOOL, AT(network), "no", .scope = OPTION_OF_DAEMON,
          .help = "give environments the host's network" },
        { "size", OPTION_BYTES, AT(size), "2G", NULL, 1 << 20, INT64_MAX,
          .help = "an environment's writable space, in memory" },
        { "orphan_timeout", OPTION_SECONDS, AT(orphan_us), "600",
          .help = "how long environments wait for the next daemon when theirs is gone; 0: they end with it" },
};

const struct option_table local_options = OPTION_TABLE(struct local_options, "local", rows);
