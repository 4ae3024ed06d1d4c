/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bytes that a user wrote: a command, or the input for one.
 *
 * A blob of up to BLOB_MEMORY_MAX bytes is in memory. A longer one moves to a
 * file, so that thousands of large commands cost disk, not memory. The file
 * belongs to the blob and is removed with it, unless blob_rename() gave it a
 * name by which it is found after a crash. It is open only during a read or
 * write, so blobs hold no descriptors. Embedded in its owner; a zeroed blob is
 * empty.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/util/buf.h"
#include "pool/util/quota.h"

#define BLOB_NAME_MAX 64     /* bytes of a file's name, with the final NUL */
#define BLOB_MEMORY_MAX 4096 /* bytes; also fits a pipe without waiting */

struct blob {
        int dir;        /* where the file is made; borrowed */
        bool file;      /* the bytes are in a file, not in memory */
        char name[BLOB_NAME_MAX]; /* of the file */
        bool kept;      /* the file outlives the blob */
        struct buf buf; /* the bytes, while they are in memory */
        uint64_t size;  /* bytes */
        uint64_t max;   /* size never passes this */
        struct quota_account *quota; /* charged with the bytes of the file; borrowed, NULL until set */
};

/* @dir is a directory's descriptor and outlives the blob. */
void blob_init(struct blob *b, int dir, uint64_t max);
void blob_deinit(struct blob *b);

/* Make it empty again. */
void blob_clear(struct blob *b);

/* Move the bytes of @from, which is empty afterwards, to @to, whose own bytes are dropped. */
void blob_move(struct blob *to, struct blob *from);

/*
 * 0, -EFBIG past the maximum, -EDQUOT past the quota, -ENOMEM, -ENOSPC or another error of the disk; unchanged on
 * failure.
 */
int blob_append(struct blob *b, const void *data, size_t len);

/* Whether its bytes are in a file. */
static inline bool blob_is_file(const struct blob *b) {
        return b->file;
}

/* Its b->size bytes if they are in memory, else NULL. */
static inline const char *blob_bytes(const struct blob *b) {
        return blob_is_file(b) ? NULL : b->buf.data ? b->buf.data : "";
}

/* Give its file a lasting name in the same directory. 0, also without a file; on -errno it keeps the old name. */
int blob_rename(struct blob *b, const char *name);

/* Take over such a file into an empty blob. 0 or -errno. */
int blob_restore(struct blob *b, const char *name);

/* Bytes read, 0 at the end, or -errno. */
ssize_t blob_read(const struct blob *b, uint64_t offset, void *data, size_t len);

/*
 * A new descriptor with its own position, from which the bytes can be read; or
 * -errno. The caller closes it.
 */
int blob_open(const struct blob *b);
