/* SPDX-License-Identifier: MIT */
#pragma once

/* The contents of the status files, made from the pool and its leases. All return 0 or -errno of the buffer. */

#include "pool/base/lag.h"
#include "pool/lease/table.h"

/* What the pool's status files are made from. Everything is borrowed for the time of the call. */
struct status_sources {
        const struct pool *pool;
        const struct leases *leases;
        const struct config *config;
        const struct lag *lag;
        unsigned n_reads;       /* waiting reads */
        int64_t oldest_read_us; /* since when the oldest of them waits */
        int64_t now_us;

        const char *name;     /* of the pool; NULL: the mount's own */
        uid_t owner;          /* of a pool with a name, as is the next */
        const char *template; /* how far its template is */
        const struct status_sources *others; /* the pools with names, for the mount's own */
        unsigned n_others;
};

/* NAME/status and NAME/jobs/N/status: lines `key value`. */
int status_lease(const struct lease *l, struct buf *out);
int status_job(const struct job *j, struct buf *out);

/* .pool/status: tables for people. */
int status_pool(const struct status_sources *s, struct buf *out);

/* .pool/stats: the same as JSON with stable keys. */
int status_stats(const struct status_sources *s, struct buf *out);

/* .pool/metrics: Prometheus text format 0.0.4. */
int status_metrics(const struct status_sources *s, struct buf *out);
