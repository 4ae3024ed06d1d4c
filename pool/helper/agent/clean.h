/* SPDX-License-Identifier: MIT */
#pragma once

/* CLEAN and NOTE, as protocol.h says. They take their time, and memory as they need it. */

#include <stddef.h>
#include <stdint.h>

#include "pool/helper/agent/processes.h"
#include "pool/helper/protocol.h"

struct clean_request {
        enum helper_request kind;
        uint8_t flags;
        char *strings;
        size_t len;
};

struct clean_report {
        int error; /* an errno, or 0 */
        size_t len;
        char text[HELPER_REPORT_MAX];
};

/* NULL, or what is wrong with a request. Brings its paths into their shortest form. */
const char *clean_check(struct clean_request *q);

/* @reapers: see reapers_orphans(). @report is empty. */
void clean_do(const struct clean_request *q, const struct family *reapers, struct clean_report *report);
