/* SPDX-License-Identifier: MIT */
#pragma once

/* Leases that hold an environment without a job, which costs money: the log names them from time to time. */

#include "pool/lease/lease.h"

struct leases;

/* Note whether it holds its environment without a job. Called after each change of its state and of its jobs. */
void lease_note_use(struct lease *l);

/* Warn of those that have done so for too long. */
void leases_warn_unused(struct leases *t, int64_t now);
