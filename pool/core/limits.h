/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow: pools. */

#define POOLS_MAX 4096 /* beside the mount's own */
