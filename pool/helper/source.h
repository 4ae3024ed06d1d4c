/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A command or an input, to be read whenever it is sent: a copy of what is short, a descriptor of what is long.
 *
 * Embedded in its owner; a zeroed one is empty. Made of a blob (blob.h), of which it is independent afterwards.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/util/blob.h"

struct source {
        uint64_t size;
        char *bytes; /* of what is in memory */
        int fd;      /* of the others */
};

/* 0 or -errno. @blob may be NULL. */
int source_init(struct source *s, const struct blob *blob);
void source_deinit(struct source *s);

/* Exactly @len bytes from @offset, which it has. False: they cannot be read now. */
bool source_read(const struct source *s, uint64_t offset, void *data, size_t len);
