/* SPDX-License-Identifier: MIT */
#pragma once

/* The tree of one lease: see remote.h. It lives as long as its lease is there, or a node or an open file of it. */

#include <uthash.h>

#include "fs/fs.h"
#include "fs/remote/node.h"
#include "pool/lease/files.h"
#include "pool/util/watch.h"

struct remote_dir;

struct remote_tree {
        struct list link;  /* in the fs's list of all */
        UT_hash_handle hh; /* in the fs's, by serial, until it is over */
        uint64_t serial;   /* of the lease */
        struct fs *fs;
        struct lease *lease; /* a reference */
        bool over;
        unsigned refs;              /* nodes, and the fs while it is not over */
        struct remote_node *root;   /* until it is over */
        struct remote_node *by_key; /* a hash of all that are NAMED */
        struct list nodes;          /* all but the root */
        struct list told;           /* those of which the kernel believes attributes, the last that was told at the end */
        struct list requests;       /* all that wait */
        struct list waiting;        /* of these, those that wait for the environment */
        struct list files;          /* open files, and */
        struct list dirs;           /* directories that are being read; */
        struct list aheads;         /* of these, those that the kernel has not opened, the oldest first */
        struct list walk;           /* directories that are to be read ahead */
        unsigned n_aheads, n_walk;
        void (*listed)(struct remote_tree *t, struct remote_dir *d); /* a part of a listing has come */
        int64_t walked_us;          /* when the last one was opened whose parent had just been read, */
        unsigned n_walked;          /* and how many were, one soon after another */
        struct list readies;        /* files that are opened ahead, the oldest first */
        unsigned n_readies, n_ready_asks; /* those that are there; that were asked for */
        int64_t opened_us;          /* when the last file was opened for reading whose directory had just been read, */
        unsigned n_opened;          /* and how many were, one soon after another */
        struct watch watch;         /* of the lease */
        int64_t changed_us;         /* when a job has ended: what was asked for before is old */
        int64_t links_us;           /* when a file with several names was changed: likewise, of such files */
        uint64_t renames;           /* of directories: a path from before may be wrong */
        uint32_t ended;             /* jobs of the lease that have ended */
        char environment[SANDBOX_ID_MAX]; /* the one that all nodes are of, or "" */
};

struct remote_tree *remote_tree_ref(struct remote_tree *t);
void remote_tree_unref(struct remote_tree *t);

/* Since when answers are true: what was asked before is not. */
int64_t remote_now(const struct remote_tree *t);

/* Whether ids are shown as they are inside, and can be changed. */
bool remote_shows_ids(const struct remote_tree *t);

/* Why no call can be made in this state of the lease: -errno. */
int remote_tree_error(const struct remote_tree *t, int error);
