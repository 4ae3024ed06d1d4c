/* SPDX-License-Identifier: MIT */
#pragma once

/* The words of a lease's ctl. */

#include "pool/lease/lease.h"

/* -EINVAL for one that makes no sense now; lease_error says which. */
int lease_command(struct lease *l, const char *line);
