/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time: the files of the mount. */

#include <stdint.h>

#define SETTING_SIZE_MAX (64 << 10)                 /* bytes of cwd or of env */
#define WRITES_WAITING_MAX (UINT64_C(32) << 20)      /* bytes that WRITEs which wait for room keep in memory; beyond … */
#define WRITE_WAITING_LEAST (64 << 10)              /* … each keeps at most these, and writes no more */
#define TEXT_FILE_MAX (UINT64_C(64) << 20)          /* bytes of a rendered file */
