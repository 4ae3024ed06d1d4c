/* SPDX-License-Identifier: MIT */
#pragma once

/* How a job ended, as the JSON object that `result` has. */

#include <jansson.h>

#include "pool/lease/job.h"

/* Of a job that has ended. The caller's; NULL: no memory. */
json_t *job_result(const struct job *j);
