/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time: the daemon's own times. */

#include "pool/util/clock.h"

#define START_QUIET_US USEC_PER_SEC                  /* a step of the start that takes longer is reported */
#define STOP_MARGIN_US (5 * USEC_PER_SEC)            /* of time that systemd is asked for beyond stop_timeout */
