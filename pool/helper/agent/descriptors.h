/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/* Closes all descriptors but 0, 1, 2 and these, at most 16, of which some may be -1. */
void descriptors_close_others(const int *keep, size_t n);
