/* SPDX-License-Identifier: MIT */
#include "pool/lease/registry.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>

#include "pool/lease/lease-body.h"

int lease_registry_init(struct lease_registry *r) {
        if (getrandom(&r->instance, sizeof(r->instance), 0) != sizeof(r->instance))
                return -errno;
        return quota_new(&r->quota, r->config->spool_max, r->config->spool_max_per_user);
}

void lease_registry_deinit(struct lease_registry *r) {
        assert(!r->by_serial);
        quota_free(r->quota); /* readers of jobs may still have accounts */
}

void lease_registry_note_serial(struct lease_registry *r, uint64_t serial) {
        if (r->last_serial < serial)
                r->last_serial = serial;
}

unsigned lease_registry_count(const struct lease_registry *r) {
        return HASH_CNT(hh_serial, r->by_serial);
}
