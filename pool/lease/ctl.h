/* SPDX-License-Identifier: MIT */
#pragma once

/* The words of ctl: of a lease, and of a job. */

#include "pool/lease/lease.h"

/* Of the job @j, or of the lease where that is NULL. -EINVAL for one that makes no sense now; lease_error says which. */
int lease_command(struct lease *l, struct job *j, const char *line);

/* The words that there are, a line each. */
const char *lease_ctl_usage(bool of_job);
