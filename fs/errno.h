/* SPDX-License-Identifier: MIT */
#pragma once

#include "pool/util/result.h"

/* The errno (positive) for a result, the same for every file; 0 for RESULT_OK. */
int errno_of_result(enum result_code code);
