/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A directory that is being read. It asks for several parts of its listing at once, and keeps what came until it is
 * closed, or until there is much of it: then what the kernel has read is dropped, and who goes back makes it begin anew.
 */

#include "fs/remote/tree.h"

#define LIST_AHEAD 32                 /* parts that are asked for at once; four times as many as have come, first */
#define LIST_AHEAD_BYTES (2 << 20)    /* as long as the kernel has not read so many bytes of what is there */
#define LIST_UNASKED_BYTES (256 << 10) /* of one that the kernel has not opened */
#define LIST_ENTRIES_MAX (1 << 24)    /* then the directory has no end, and reading it fails */
#define LIST_KEPT_BYTES (4 << 20)     /* of what it has read */

/* A part of a listing, whose form is checked. */
struct remote_part {
        struct list link; /* in the directory's */
        uint64_t first;   /* number of its first entry */
        uint64_t n;
        int64_t asked_us;
        size_t len;
        uint8_t data[];
};

struct remote_dir {
        struct list link;         /* in the tree's */
        struct remote_node *node; /* a reference */
        uint64_t handle;          /* of the listing; 0: it has not begun, or is at its end */
        bool begun, ended, odd;   /* odd: it had a name that cannot be, and the log was told */
        int error;                /* that ended it */
        int64_t begun_us;
        struct list parts, asks, reads;
        unsigned n_asks, n_parts; /* under way; that have come */
        size_t bytes;             /* of parts */
        uint64_t n;               /* entries that have come */
        uint64_t n_read;          /* those before this one were given */
        bool whole;               /* each has a node since */
        bool ahead;               /* the kernel has not asked for it; then it is in the tree's aheads, too */
        struct list ahead_link;
        bool contents_asked; /* of the small files in it: see ready.h */
};

/* One that the kernel has not opened: see ahead.h. NULL: no memory. */
struct remote_dir *remote_dir_new(struct remote_node *n);
void remote_dir_free(struct remote_dir *d);

/* The kernel opens it, or it goes: it is not ahead any more. */
void remote_dir_leave_ahead(struct remote_dir *d);

/* Asks for the first part. -EAGAIN: the environment is not there yet; or what else is wrong. */
int remote_dir_begin(struct remote_dir *d);

/* The environment is there: those that wait for it go on. */
void remote_dirs_retry(struct remote_tree *t);

void remote_dirs_end(struct remote_tree *t, int error);
void remote_dirs_free(struct remote_tree *t);
