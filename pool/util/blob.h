/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bytes that a user wrote: a command, or the input for one.
 *
 * The first BLOB_MEMORY_MAX bytes stay in memory; a longer blob moves to a
 * nameless file, so that thousands of large commands cost disk, not memory.
 * Embedded in its owner; a zeroed blob with fd -1 is empty.
 */

#include <stdint.h>
#include <sys/types.h>

#include "pool/util/buf.h"

#define BLOB_MEMORY_MAX 4096 /* bytes; also fits a pipe without waiting */

struct blob {
        int dir;        /* where the file is made; borrowed */
        int fd;         /* the file, or -1 while the bytes are in memory */
        struct buf buf; /* the bytes, while fd is -1 */
        uint64_t size;  /* bytes */
        uint64_t max;   /* size never passes this */
};

/* @dir is a directory's descriptor and outlives the blob. */
void blob_init(struct blob *b, int dir, uint64_t max);
void blob_deinit(struct blob *b);

/* Make it empty again. */
void blob_clear(struct blob *b);

/* Move the bytes from @from, which is empty afterwards, to @to, whose own are forgotten. */
void blob_move(struct blob *to, struct blob *from);

/* 0, -EFBIG past the maximum, -ENOMEM, -ENOSPC or what the disk says; unchanged on failure. */
int blob_append(struct blob *b, const void *data, size_t len);

/* Bytes read, 0 at the end, or -errno. */
ssize_t blob_read(const struct blob *b, uint64_t offset, void *data, size_t len);

/*
 * A new descriptor, open for reading from the start, of its own position,
 * that gives the bytes and then the end; or -errno. The caller closes it.
 */
int blob_open(const struct blob *b);
