/* SPDX-License-Identifier: MIT */
#pragma once

/* The process that looks after files, a child of the helper: it does one call after another. */

#include <stdint.h>

#include "pool/helper/limits.h"

/* A place for a call and then for its answer, in memory that both processes share. */
struct file_slot {
        uint32_t error; /* of the answer: 0 or an errno */
        uint32_t len;   /* of the call's data, then of the answer's */
        uint8_t data[HELPER_DATA_MAX];
};

/*
 * Reads numbers of slots from @channel, a byte each, and writes each back when its call is done. Ends with the channel.
 * @generation: of this process, different from those of all before it; 0 to 2^16 - 1.
 */
_Noreturn void file_server_run(int channel, struct file_slot *slots, const char *root, unsigned generation);
