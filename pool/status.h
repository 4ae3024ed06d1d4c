/* SPDX-License-Identifier: MIT */
#pragma once

/* What the books say, as text: the contents of the status files. All return 0 or -errno of the buffer. */

#include "pool/lease.h"

/* NAME/status and NAME/jobs/N/status: lines `key value`. */
int status_lease(const struct lease *l, struct buf *out);
int status_job(const struct job *j, struct buf *out);

/* .pool/status: a table for people. */
int status_pool(const struct pool *p, struct leases *t, const struct config *config, struct buf *out);

/* .pool/stats: the same counts as JSON with stable keys. */
int status_stats(const struct pool *p, struct leases *t, const struct config *config, struct buf *out);

/* .pool/metrics: Prometheus text format 0.0.4. */
int status_metrics(const struct pool *p, struct leases *t, const struct config *config, struct buf *out);
