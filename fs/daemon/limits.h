/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time: the daemon's own times. */

#include "pool/util/clock.h"

#define START_QUIET_US USEC_PER_SEC                  /* what takes longer at the start is spoken of */
#define STOP_MARGIN_US (5 * USEC_PER_SEC)            /* that a service manager is asked for beyond stop_timeout */
