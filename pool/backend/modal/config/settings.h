/* SPDX-License-Identifier: MIT */
#pragma once

/* The options of the Modal backend, checked and taken apart into struct modal. */

#include "pool/backend/modal/modal.h"
#include "pool/util/result.h"

struct modal;

/* 0, or -errno with @why. What it has set by then goes with deinit. */
int modal_settings_init(struct modal *m, const struct modal_options *o, struct result *why);
void modal_settings_deinit(struct modal *m);
