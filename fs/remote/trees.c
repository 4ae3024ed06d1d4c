/* SPDX-License-Identifier: MIT */

/* The trees of all leases: when they are made, what becomes of them when their leases change, and their end. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/files.h"
#include "fs/remote/ahead.h"
#include "fs/remote/dir.h"
#include "fs/remote/file.h"
#include "fs/remote/ready.h"
#include "fs/remote/remote.h"
#include "fs/remote/request.h"

/* The environment is another, or none: no name stands for what it stood for. Those without a use are freed by that. */
static void detach_all(struct remote_tree *t) {
        struct remote_node *n;

        while ((n = list_first(&t->root->children, struct remote_node, children_link))) {
                remote_node_ref(n);
                remote_node_detach(n);
                remote_node_unref(n);
        }
        t->root->complete_us = 0;
}

/* A job may have changed anything. */
static void take_back_all(struct remote_tree *t) {
        struct remote_node *n;

        t->changed_us = remote_now(t);
        while ((n = list_first(&t->told, struct remote_node, told_link)))
                remote_node_take_back(n);
}

static void end_use(struct remote_tree *t, int error) {
        requests_answer_owned(&t->requests, error);
        remote_files_end(t, error);
        remote_ahead_end(t);
        remote_ready_end(t);
        remote_dirs_end(t, error);
}

/* Nothing can be asked any more. */
static void tree_end(struct remote_tree *t) {
        struct remote_node *root = t->root;

        if (t->over)
                return;
        watch_remove(&t->watch);
        end_use(t, -ESTALE);
        detach_all(t);
        t->over = true;
        t->root = NULL;
        HASH_DEL(t->fs->trees, t);
        remote_node_unref(root);
        remote_tree_unref(t);
}

static void take_environment(struct remote_tree *t) {
        const char *now = lease_environment(t->lease) ?: "";

        if (strcmp(t->environment, now) == 0)
                return;
        remote_ahead_end(t);
        remote_ready_end(t);
        if (*t->environment) {
                take_back_all(t);
                detach_all(t);
        }
        snprintf(t->environment, sizeof(t->environment), "%s", now);
}

static void on_changed(struct watch *w) {
        struct remote_tree *t = container_of(w, struct remote_tree, watch);

        if (t->ended != lease_jobs_ended(t->lease)) {
                t->ended = lease_jobs_ended(t->lease);
                take_back_all(t);
                remote_ready_end(t);
        }
        switch (lease_state(t->lease)) {
        case LEASE_WAITING:
                return;
        case LEASE_LEASED:
                take_environment(t);
                remote_requests_retry(t);
                remote_dirs_retry(t);
                return;
        case LEASE_LOST:
        case LEASE_FAILED:
                end_use(t, remote_tree_error(t, -ENODEV));
                return;
        default:
                tree_end(t);
        }
}

static struct remote_tree *tree_new(struct fs *fs, struct lease *l) {
        struct remote_tree *t = calloc(1, sizeof(*t));

        if (!t)
                return NULL;
        *t = (struct remote_tree){ .fs = fs, .lease = lease_ref(l), .serial = lease_serial(l), .refs = 1,
                                   .ended = lease_jobs_ended(l) };
        list_init(&t->link);
        list_init(&t->nodes);
        list_init(&t->told);
        list_init(&t->requests);
        list_init(&t->waiting);
        list_init(&t->files);
        list_init(&t->dirs);
        list_init(&t->aheads);
        list_init(&t->walk);
        list_init(&t->readies);
        watch_init(&t->watch, on_changed);
        t->listed = remote_ahead_go_on;
        t->root = remote_node_new_root(t);
        if (!t->root) {
                remote_tree_unref(t);
                return NULL;
        }
        take_environment(t);
        watch_add(lease_file_watches(l), &t->watch);
        list_add_tail(&fs->all_trees, &t->link);
        HASH_ADD(hh, fs->trees, serial, sizeof(t->serial), t);
        return t;
}

/* Made if need be; borrowed. NULL: no memory. */
static struct remote_tree *tree_of(struct fs *fs, struct lease *l) {
        uint64_t serial = lease_serial(l);
        struct remote_tree *t;

        HASH_FIND(hh, fs->trees, &serial, sizeof(serial), t);
        return t ?: tree_new(fs, l);
}

struct remote_node *remote_find(struct fs *fs, fuse_ino_t ino) {
        struct remote_node *n = remote_node_of_number(ino);
        struct remote_tree *t;
        struct target target;

        if (n)
                return n;
        if (target_find(fs, ino, &target) < 0 || target.id != FILE_TREE)
                return NULL;
        t = tree_of(fs, target.lease);
        return t ? t->root : NULL;
}

/* The kernel does so without a word. */
static void forget_all(struct remote_tree *t) {
        struct remote_node *n;

        list_for_each (n, &t->nodes, link)
                remote_node_ref(n);
        while ((n = list_first(&t->nodes, struct remote_node, link))) {
                list_remove(&n->link);
                n->lookups = 0;
                remote_node_unref(n);
        }
}

struct remote_node *remote_below(fuse_ino_t ino) {
        return remote_node_of_number(ino);
}

void remote_free_all(struct fs *fs) {
        struct remote_tree *t;

        while ((t = list_first(&fs->all_trees, struct remote_tree, link))) {
                remote_tree_ref(t);
                tree_end(t);
                remote_files_free(t);
                remote_dirs_free(t);
                forget_all(t);
                list_remove(&t->link);
                remote_tree_unref(t);
        }
}
