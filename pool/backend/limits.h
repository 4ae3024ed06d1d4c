/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time: what every backend has. */

#include "pool/util/clock.h"

#define GRACE_MAX_US (86400 * USEC_PER_SEC)         /* the longest kill_grace that makes a difference */
