/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A name below root/, or what was one: see remote.h.
 *
 * It lives as long as the kernel, its children, open files or requests hold on to it.
 */

#include <stdbool.h>
#include <sys/stat.h>
#include <uthash.h>

#include "fs/request.h"
#include "pool/helper/file-call.h"
#include "pool/util/list.h"

struct remote_tree;

/* What tells whether contents are as they were. */
struct remote_version {
        uint64_t size;
        struct file_time mtime, ctime;
};

struct remote_node {
        struct remote_tree *tree; /* a reference */
        struct list link;         /* in the tree's nodes */
        uint64_t lookups;         /* of the kernel */
        unsigned refs;            /* children, open files, requests */

        UT_hash_handle hh;            /* in the tree's, while it is NAMED */
        struct remote_node *parent;   /* a reference; NULL: the root, or DETACHED */
        struct remote_key *key;       /* NULL likewise */
        struct list children_link;    /* in the parent's children */
        struct list children;

        struct file_attributes attributes; /* the last that are known; of no meaning before the first */
        bool known;
        int64_t asked_us;        /* when the attributes were asked for, */
        int64_t named_us;        /* and when what its name stands for was: an open file may have lost it since */
        int64_t changed_us;      /* when it was changed here: what was asked for before is old */
        int64_t told_us;         /* the kernel believes the attributes until then, while it is in the tree's list */
        struct list told_link;
        int64_t complete_us;     /* a directory: all names in it had nodes when they were asked for; 0: not so */
        int64_t read_us;         /* a directory: when the kernel read it, and */
        struct remote_dir *ahead; /* what was read of it ahead, or NULL */
        struct list walk_link;   /* in the tree's walk, with a reference */
        struct remote_ready *ready; /* a file: what was opened of it ahead, or NULL */
        int64_t opened_us;       /* when the kernel opened it to read it */
        int64_t missed_us;       /* when a name in it was asked for that was not known */
        bool has_pages;          /* the kernel may keep pages of this version: */
        struct remote_version pages;
        bool made;               /* by mknod here */
        struct list files;       /* open ones */
};

static inline struct remote_node *remote_node_ref(struct remote_node *n) {
        n->refs++;
        return n;
}

/* NULL is fine. */
void remote_node_unref(struct remote_node *n);

/* The root of a tree. */
struct remote_node *remote_node_new_root(struct remote_tree *t);

/* By which the kernel knows it. */
fuse_ino_t remote_node_number(const struct remote_node *n);
struct remote_node *remote_node_of_number(fuse_ino_t number); /* NULL: it is none */

/* The node of @name, or NULL. */
struct remote_node *remote_node_find(struct remote_node *dir, const char *name, size_t len);

/*
 * That of a name that stands for a file with these attributes, which were asked for at @asked_us. A new one if there is
 * none, or one of another file. NULL: no memory.
 */
struct remote_node *remote_node_take(struct remote_node *dir, const char *name, size_t len, const struct file_attributes *a,
                                     int64_t asked_us);

/* What is known of it now, asked for by its name. -ESTALE: that stands for another file, so it is DETACHED. */
int remote_node_update(struct remote_node *n, const struct file_attributes *a, int64_t asked_us);

/* The same of an open file: that says nothing of its name. */
int remote_node_update_open(struct remote_node *n, const struct file_attributes *a, int64_t asked_us);

/* Something was changed here: what was known, or is being asked, is old. */
void remote_node_changed(struct remote_node *n);

/* Whether it is known to be a file with several names. */
bool remote_node_has_links(const struct remote_node *n);

/* What is known now of this file tells that it was changed at @at_us by several names: what was known of the others is old. */
void remote_node_links_changed(struct remote_node *n, int64_t at_us);

/* Whether what was asked for at @asked_us is true: it is not old, and nothing was changed since. */
bool remote_node_is_true(const struct remote_node *n, int64_t asked_us);

/* Whether its name is true: what is done here to a directory does not change that. */
bool remote_node_is_named(const struct remote_node *n);

/* Whether its attributes are true. */
bool remote_node_is_fresh(const struct remote_node *n);

void remote_node_detach(struct remote_node *n);

/* It stands under another name from now on; what stood there is DETACHED. 0 or -ENOMEM, then it is DETACHED itself. */
int remote_node_move(struct remote_node *n, struct remote_node *dir, const char *name);

/* Its names from the root on, as a call has them: 0, -ESTALE when it is DETACHED, or -ENAMETOOLONG. */
int remote_node_path(const struct remote_node *n, char *out, size_t size);
unsigned remote_node_depth(const struct remote_node *n);
const char *remote_node_name(const struct remote_node *n);

/* As stat(2) shows it, and how long the kernel may believe that, which is noted. */
void remote_node_stat(const struct remote_node *n, struct stat *st);
double remote_node_tell(struct remote_node *n);

/* The kernel believes nothing of it any more. */
void remote_node_take_back(struct remote_node *n);

/* Whether the pages that the kernel has of it are of this version; and they are of it from now on. */
bool remote_node_keeps_pages(struct remote_node *n, const struct file_attributes *a);

/* Whether it can be the name of something in a directory. */
bool remote_is_name(const char *name, size_t len);
