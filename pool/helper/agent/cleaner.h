/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The cleaner: a process of its own, a child of the helper, for what takes time and memory. It does one request, sends
 * one report, and ends. So a tree of any size holds up no frame, and what it allocates is soon given back. It has a limit
 * of processor time.
 */

#include "pool/helper/agent/clean.h"

/* There is none: starts one. Then @done is called once, later. 0 or -errno. */
int cleaner_start(const struct clean_request *request, void (*done)(const struct clean_report *report));

/* Kills it: it does not report any more. */
void cleaner_cancel(void);
