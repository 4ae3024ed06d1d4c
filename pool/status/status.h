/* SPDX-License-Identifier: MIT */
#pragma once

/* What the books say, as text: the contents of the status files. All return 0 or -errno of the buffer. */

#include "pool/base/lag.h"
#include "pool/lease/lease.h"

/* What the files of the pool are made from. Everything is borrowed for the time of the call. */
struct status_sources {
        const struct pool *pool;
        const struct leases *leases;
        const struct config *config;
        const struct lag *lag;
        unsigned n_reads;       /* that wait */
        int64_t oldest_read_us; /* since when the first of them does */
        int64_t now_us;
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
