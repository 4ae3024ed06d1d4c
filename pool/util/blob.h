/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bytes that a user wrote: a command, or the input for one.
 *
 * The first BLOB_MEMORY_MAX bytes stay in memory; a longer blob moves to a
 * file, so that thousands of large commands cost disk, not memory. The file is
 * nobody's but the blob's, and goes with it, unless it was given a name to be
 * found by after a crash. It is open only while it is read or written: a blob holds no descriptor, whatever their number.
 * Embedded in its owner; a zeroed blob is empty.
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
        bool file;      /* the bytes are in a file, and no more in memory */
        char name[BLOB_NAME_MAX]; /* the file's */
        bool kept;      /* the file outlives the blob */
        struct buf buf; /* the bytes, while they are in memory */
        uint64_t size;  /* bytes */
        uint64_t max;   /* size never passes this */
        struct quota_account *quota; /* to which the bytes of the file are charged; borrowed, and NULL until its owner sets it */
};

/* @dir is a directory's descriptor and outlives the blob. */
void blob_init(struct blob *b, int dir, uint64_t max);
void blob_deinit(struct blob *b);

/* Make it empty again. */
void blob_clear(struct blob *b);

/* Move the bytes from @from, which is empty afterwards, to @to, whose own are forgotten. */
void blob_move(struct blob *to, struct blob *from);

/* 0, -EFBIG past the maximum, -EDQUOT past the quota, -ENOMEM, -ENOSPC or what the disk says; unchanged on failure. */
int blob_append(struct blob *b, const void *data, size_t len);

/* Whether its bytes are in a file. */
static inline bool blob_is_file(const struct blob *b) {
        return b->file;
}

/* Its bytes while they are in memory, b->size of them. */
static inline const char *blob_bytes(const struct blob *b) {
        return blob_is_file(b) ? NULL : b->buf.data ? b->buf.data : "";
}

/* Give its file a name that lasts, in the same directory. 0, also where there is no file, or -errno: it keeps the old one. */
int blob_rename(struct blob *b, const char *name);

/* An empty blob takes the bytes of such a file, which is its own from then on. 0 or -errno. */
int blob_restore(struct blob *b, const char *name);

/* Bytes read, 0 at the end, or -errno. */
ssize_t blob_read(const struct blob *b, uint64_t offset, void *data, size_t len);

/*
 * A new descriptor, open for reading from the start, of its own position,
 * that gives the bytes and then the end; or -errno. The caller closes it.
 */
int blob_open(const struct blob *b);
