/* SPDX-License-Identifier: MIT */
#pragma once

#include "pool/util/result.h"

/* The errno (positive) that users get for a cause, the same everywhere; 0 for RESULT_OK. */
int errno_of_result(enum result_code code);
