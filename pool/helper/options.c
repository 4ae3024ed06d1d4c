/* SPDX-License-Identifier: MIT */
#include "pool/helper/helper.h"

static const char *const uses[] = { [HELPER_NO] = "no", [HELPER_AUTO] = "auto", [HELPER_YES] = "yes", NULL };

#define AT(field) offsetof(struct helper_options, field)

static const struct option_row rows[] = {
        { "helper", OPTION_CHOICE, AT(use), "auto", .words = uses,
          .help = "put a helper into each sandbox, which runs its jobs; auto: where it can run" },
        { "carrier_idle", OPTION_SECONDS, AT(carrier_idle_us), "600",
          .help = "seconds after the last job until the stream to a helper is closed" },
};

const struct option_table helper_options = OPTION_TABLE(struct helper_options, NULL, rows);
