/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * After a restart: take back the environments of an earlier run that are in
 * the journal.
 */

#include "pool/environment/environment.h"

/*
 * Ask each environment in the journal whether it is alive, and terminate those that were ending. An environment that
 * cannot be taken back is logged and dropped. On -errno none is taken back.
 */
int environments_restore(struct environments *all);
