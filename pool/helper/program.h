/* SPDX-License-Identifier: MIT */
#pragma once

#include "pool/helper/upload.h"
#include "pool/util/result.h"

/* The helper as it is uploaded, which the backends of all pools share; or why there is none. */
struct helper_program {
        struct upload_program upload; /* without bytes: none is uploaded */
        struct result failure;
};

/* Once, from a file. What cannot be read is a failure that helper_new() judges. */
void helper_program_read(struct helper_program *p, const char *path);
