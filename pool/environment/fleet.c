/* SPDX-License-Identifier: MIT */
#include "pool/environment/fleet.h"

void fleet_init(struct fleet *f, struct backend *backend) {
        *f = (struct fleet){ .backend = backend };
}

void fleet_deinit(struct fleet *f) {
        orphans_deinit(&f->orphans);
}

void fleet_join(struct fleet *f, struct environments *set) {
        if (!f->orphans.environments)
                orphans_init(&f->orphans, set);
}

void fleet_stop(struct fleet *f) {
        f->stopping = true;
}
