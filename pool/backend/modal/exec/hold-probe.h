/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * May output and end of a process be asked for together with its start, in one round trip?
 *
 * Only of a router that holds such calls back until the process is there. What Modal's routers do is written nowhere,
 * so each is asked once, for the output of a process that nobody starts. One that holds the call back to its deadline
 * is one of them. From any other answer nothing follows but that starts come first: one that says at once that there
 * is no such process gains nothing, and one that says that its output is over must not be believed later.
 *
 * Embedded in the processes of a sandbox.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/modal/rpc/call.h"

struct modal_hold_probe {
        struct modal_endpoint *router;
        const char *task_id; /* borrowed */
        struct modal_call *call;
        int64_t asked_us;          /* when … */
        unsigned asked_generation; /* … and with which access */
        bool holds;                /* it holds them back … */
        unsigned peer;             /* … that router, not one that came after it */
};

/* Once the sandbox is live. @task_id is borrowed. Without an answer starts come first, as ever. */
void modal_hold_probe_start(struct modal_hold_probe *h, struct modal_endpoint *router, const char *task_id);
void modal_hold_probe_cancel(struct modal_hold_probe *h);

/* The router of now holds such calls back. */
bool modal_hold_probe_holds(const struct modal_hold_probe *h);
