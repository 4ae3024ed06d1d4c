/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A fuzz target is one function over any bytes. With clang it is libFuzzer's;
 * with other compilers replay.c runs it over its corpus, whole and damaged.
 */

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
