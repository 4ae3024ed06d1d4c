/* SPDX-License-Identifier: MIT */
#pragma once

/* From the command line to a job that is submitted. */

#include "fs/client/arguments.h"
#include "fs/client/job-files.h"

/* 0, or -errno with @why filled in; then nothing is left. */
int make_job(struct job_files *f, const struct arguments *a, struct result *why);
