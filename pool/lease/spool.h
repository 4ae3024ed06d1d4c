/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The output of one job, on disk, in the order in which it arrived.
 *
 * stdout and stderr are a file each, so that their sizes alone say from where
 * a broken stream goes on. Only when both have bytes is there a third file,
 * the order: one record for each change from one stream to the other.
 * `output` is both files read through it.
 *
 * A spool is made by its job, and shared by readers: a reference each. Files
 * are open while the job writes or anyone reads, as far as there are
 * descriptors, and removed with the spool, unless it is kept for a later run.
 * Their bytes are charged to the quota of the job's user.
 * Nothing is kept in memory but sizes. Writes and reads go to the page cache
 * and return when that has the bytes.
 */

#include <stdint.h>
#include <sys/types.h>

#include "pool/backend/backend.h"
#include "pool/util/quota.h"

struct spool;

enum view {
        VIEW_STDOUT, /* = STREAM_STDOUT */
        VIEW_STDERR, /* = STREAM_STDERR */
        VIEW_OUTPUT,
};

#define SPOOL_NAME_MAX 64 /* bytes of a name, with the final NUL */

/* In the directory @dir, and charged to @quota, which are borrowed. No file is made yet. 0 or -ENOMEM. */
int spool_new(struct spool **out, int dir, uint64_t max, struct quota_account *quota);
/* Files are NAME.stdout … from now on; before the first byte. */
void spool_name(struct spool *s, const char *name);
/* The same over files that an earlier run left: it goes on where their bytes end. No file: no bytes. 0 or -errno. */
int spool_restore(struct spool **out, int dir, const char *name, uint64_t max, struct quota_account *quota);

/* Leave the files when the spool goes. */
void spool_keep(struct spool *s);

struct spool *spool_ref(struct spool *s);
void spool_unref(struct spool *s);

/*
 * Add bytes: all of them, or as many as fit and then -EFBIG, or -EDQUOT where
 * it was the quota; -ENOSPC or what else the disk says.
 */
int spool_append(struct spool *s, enum stream stream, const void *data, size_t len);

/* No more bytes will come. */
void spool_end(struct spool *s);

/* A reader comes and goes; files stay open in between. */
void spool_open(struct spool *s);
void spool_close(struct spool *s);

/* Bytes that a view has so far. */
uint64_t spool_size(const struct spool *s, enum view view);

/* Wall time of the last byte of a view, in microseconds; 0: it has none. */
int64_t spool_written_wall_us(const struct spool *s, enum view view);

/*
 * Up to @len bytes at @offset; less at the end of what there is. 0: nothing
 * there (yet). -errno when the disk fails, -EBADF outside open and close.
 */
ssize_t spool_read(struct spool *s, enum view view, uint64_t offset, void *data, size_t len);
