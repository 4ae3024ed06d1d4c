/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An open file below root/: a handle of the helper, what is read ahead of it, and what is written behind.
 *
 *   OPEN → RELEASED → freed    the kernel closes it; it is freed when all that was written has an answer
 *   any → DEAD                 the environment is gone: every use gives the error of that
 *
 * Reads ask for chunks of a fixed size, and are answered when all of theirs are there. A chunk is dropped once it was
 * given, for the kernel keeps pages; one that is older than FRESH_US, or from before a write, is asked for again.
 *
 * A write is answered at once, as long as no more than BEHIND_MAX bytes have no answer. Its error is told by the next
 * write, fsync or close, once. No job starts before all that was written has an answer.
 */

#include "fs/remote/tree.h"
#include "fs/request.h"

#define CHUNK_SIZE HELPER_DATA_MAX
#define CHUNKS_MAX 192            /* of a file, before those that a read needs now */
#define AHEAD_FIRST (128 << 10)   /* bytes that are asked for ahead of a reader, doubling … */
#define AHEAD_MAX (2 << 20)       /* … up to this */
#define BEHIND_MAX (1 << 20)

struct remote_file {
        struct list link;     /* in the node's */
        struct list link_all; /* in the tree's */
        struct remote_node *node; /* a reference */
        uint64_t handle;
        int flags;
        int dead; /* -errno; 0: it is not */
        bool released;

        struct list chunks, reads;
        unsigned n_chunks;
        uint64_t next_offset; /* where a reader goes on that reads all of it */
        uint64_t ahead;

        unsigned n_writes; /* calls without an answer */
        uint64_t n_behind; /* their bytes */
        int error;         /* of one of them, not told yet */
        struct list drains; /* requests that wait for these */
};

/* file.c: with a handle that the helper gave for @n. NULL: no memory. */
struct remote_file *remote_file_new(struct remote_node *n, uint64_t handle, int flags);

/* The kernel has closed it, or never knew it. */
void remote_file_release(struct remote_file *f);

/* Closes a handle; nobody waits for that. */
void remote_close_handle(struct remote_tree *t, uint64_t handle);

/* A handle of the node's file, one that can be written to if need be; 0: it is not open. */
uint64_t remote_open_handle(const struct remote_node *n);
uint64_t remote_open_handle_for(const struct remote_node *n, bool write);

/* The contents of a node's file are changed: what was read ahead is old. */
void remote_files_changed(struct remote_node *n);

/* Answers an OPEN: with @ready, a new one for that, or NULL: it is asked for. */
void remote_file_open(fuse_req_t req, struct remote_node *n, const struct fuse_file_info *fi, struct remote_file *ready);

/* What the kernel believes of the file may not be so any more: then it is to ask before it reads. */
void remote_file_check_belief(struct remote_node *n, const struct file_attributes *now);

/* All files of a tree are DEAD, with this error. */
void remote_files_end(struct remote_tree *t, int error);

/* The mount is gone: frees them. */
void remote_files_free(struct remote_tree *t);

/* read.c */
void remote_file_put_contents(struct remote_file *f, const uint8_t *data, size_t len, int64_t asked_us);
void remote_file_drop_chunks(struct remote_file *f);
void remote_file_make_chunks_old(struct remote_file *f);

/* The error that is to be told, which is then forgotten. */
static inline int remote_file_take_error(struct remote_file *f) {
        int error = f->error;

        f->error = 0;
        return error;
}
