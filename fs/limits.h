/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time: the files of the mount. */

#include <stdint.h>

#define SETTING_SIZE_MAX (64 << 10)                 /* bytes of cwd or of env */
#define TEXT_FILE_MAX (UINT64_C(64) << 20)          /* bytes of a rendered file */
