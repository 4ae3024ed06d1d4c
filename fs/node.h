/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Node numbers, by which the kernel names files.
 *
 * A number consists of the lease or pool, the job and the row of the tree's
 * table. Serials, which leases and pools share, and job numbers are never used
 * twice in one mount, so a number always means the same file. Therefore there
 * is no table of these nodes. A number whose lease or pool is gone is not found
 * (ESTALE).
 *
 *   bits 63-30  serial of the lease or pool, 0: the mount's own pool (LEASE_SERIAL_MAX)
 *   bits 29-6   job number, 0: none       (JOB_NUMBER_MAX)
 *   bits 5-0    row of the table, enum file_id; 0: it is a node below root/, see fs/remote/node.c
 */

#include <stdint.h>

#define NODE_FILE_BITS 6
#define NODE_JOB_BITS 24

struct node {
        uint64_t serial;
        uint32_t job;
        unsigned file;
};

static inline uint64_t node_number(struct node n) {
        return n.serial << (NODE_JOB_BITS + NODE_FILE_BITS) | (uint64_t)n.job << NODE_FILE_BITS | n.file;
}

static inline struct node node_of_number(uint64_t number) {
        return (struct node){
                .serial = number >> (NODE_JOB_BITS + NODE_FILE_BITS),
                .job = number >> NODE_FILE_BITS & ((1u << NODE_JOB_BITS) - 1),
                .file = number & ((1u << NODE_FILE_BITS) - 1),
        };
}
