/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The live input of one job: bytes that were written to its stdin, until its sandbox has them.
 *
 *   open → ended            `eof`: there will be no more
 *   and both → closed       nobody in the sandbox reads it any more, or the job has ended
 *
 * The bytes are in a file, which is a ring: the byte at each offset has its place, LIVE_INPUT_MAX behind that of an
 * earlier one whose place it takes. A byte is written only once the sandbox has the earlier one. At the file's head
 * stands how many bytes were written so far; it is put there behind the bytes. So a write that was answered is there
 * after kill -9 of the daemon, and what is missing in the sandbox is known by what that says it has.
 *
 * Its job owns it. The file is open only during a read or write, and is removed when it is closed, unless it is kept for
 * a later run.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/util/blob.h"
#include "pool/util/quota.h"

struct live_input {
        int dir;
        char name[BLOB_NAME_MAX];
        uint64_t size;  /* bytes written so far; */
        uint64_t taken; /* the sandbox has these */
        bool ended, closed;
        bool file; /* it is there; */
        bool kept; /* and outlives this */
        struct quota_account *quota;
};

/*
 * With the bytes of @first. @dir is a directory's descriptor, borrowed as @quota is. 0, -EFBIG: these are more than there
 * is room for, -EDQUOT, -ENOMEM, -ENOSPC or another error of the disk.
 */
int live_input_new(struct live_input **out, int dir, const char *name, struct quota_account *quota,
                   const struct blob *first);

/* Over the file that an earlier run left. 0 or -errno. */
int live_input_restore(struct live_input **out, int dir, const char *name, struct quota_account *quota, bool ended);

/* NULL is fine. */
void live_input_free(struct live_input *i);

/* The job has ended: no byte is kept, and none is written. */
void live_input_close(struct live_input *i);

/*
 * How many bytes were written: all, or as many as there is room for. Up to PIPE_BUF bytes are written all or none, as to
 * a pipe. -EAGAIN: no room. -EPIPE: it has ended or is closed. -ENOSPC or another error of the disk.
 */
ssize_t live_input_write(struct live_input *i, const void *data, size_t len);

/* Whether live_input_write() of PIPE_BUF bytes would not say -EAGAIN. */
bool live_input_is_writable(const struct live_input *i);

/* Exactly @len bytes from @offset. What the sandbox has may read as anything. False: they cannot be read. */
bool live_input_read(const struct live_input *i, uint64_t offset, void *data, size_t len);

/* The sandbox has the bytes before @offset. @closed: nobody in there reads any more. */
void live_input_take(struct live_input *i, uint64_t offset, bool closed);
