/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The id of a job at the provider: a UUID made from the instance (a random
 * number of the run that made the lease), the lease's serial and the job's
 * number. So it is unique for ever, and a later run of the daemon makes the
 * same id for the same job.
 */

#include <stdint.h>

#include "pool/util/uuid.h"

void exec_id_make(char out[UUID_SIZE], uint64_t instance, uint64_t lease_serial, uint32_t job_number);

/* 0, or -EINVAL for anything else. */
int exec_id_parse(const char *id, uint64_t *instance, uint64_t *lease_serial, uint32_t *job_number);
