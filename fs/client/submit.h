/* SPDX-License-Identifier: MIT */
#pragma once

/* From the command line to a job. */

#include "fs/client/arguments.h"
#include "fs/client/job-files.h"

/* A draft with its settings. 0, or -errno with @why filled in; then nothing is left. */
int make_job(struct job_files *f, const struct arguments *a, struct result *why);

/* 0, or -errno with @why filled in. */
int submit_job(const struct job_files *f, const struct arguments *a, struct result *why);
