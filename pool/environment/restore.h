/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * After a restart: take back the environments that an earlier run wrote into
 * the journal.
 */

#include "pool/environment/environment.h"

/*
 * Ask each environment in the journal whether it lives, and terminate those that were to end. 0, or -errno, and then
 * none is taken back. One that cannot be taken back is logged and dropped.
 */
int environments_restore(struct environments *all);
