/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The name of a job for ever, everywhere: a UUID, as Modal wants it, made of
 * which books it stands in, which lease and which job. So it can be made again
 * after a restart, and is never that of another job.
 */

#include <stdint.h>

#include "pool/util/uuid.h"

void exec_id_make(char out[UUID_SIZE], uint64_t instance, uint64_t lease_serial, uint32_t job_number);

/* 0, or -EINVAL for what is no such name. */
int exec_id_parse(const char *id, uint64_t *instance, uint64_t *lease_serial, uint32_t *job_number);
