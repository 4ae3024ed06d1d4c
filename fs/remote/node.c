/* SPDX-License-Identifier: MIT */
#include "fs/remote/node.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "fs/files.h"
#include "fs/node.h"
#include "fs/remote/remote.h"
#include "fs/remote/tree.h"
#include "pool/util/cleanup.h"

/* What a node is found by: its parent, and the name. */
struct remote_key {
        struct remote_node *parent;
        char name[];
};

#define KEY_SIZE(len) (offsetof(struct remote_key, name) + (len))

/* The address, since a node lives as long as the kernel knows it; with a row that the tree's table does not have. */
fuse_ino_t remote_node_number(const struct remote_node *n) {
        if (n == n->tree->root)
                return node_number((struct node){ .serial = n->tree->serial, .file = FILE_TREE });
        return (uint64_t)(uintptr_t)n << NODE_FILE_BITS;
}

struct remote_node *remote_node_of_number(fuse_ino_t number) {
        return number & ((1u << NODE_FILE_BITS) - 1) ? NULL : (struct remote_node *)(uintptr_t)(number >> NODE_FILE_BITS);
}

/* their lives */

static struct remote_node *node_new(struct remote_tree *t) {
        struct remote_node *n = calloc(1, sizeof(*n));

        if (!n)
                return NULL;
        n->tree = remote_tree_ref(t);
        list_init(&n->link);
        list_init(&n->children_link);
        list_init(&n->children);
        list_init(&n->told_link);
        list_init(&n->walk_link);
        list_init(&n->files);
        return n;
}

struct remote_node *remote_node_new_root(struct remote_tree *t) {
        struct remote_node *n = node_new(t);

        if (n)
                n->refs = 1;
        return n;
}

static void free_if_unused(struct remote_node *n) {
        struct remote_tree *t = n->tree;

        if (n->refs > 0 || n->lookups > 0)
                return;
        if (n->parent)
                n->parent->complete_us = 0; /* this name is not known any more */
        remote_node_detach(n);
        list_remove(&n->link);
        list_remove(&n->told_link);
        free(n);
        remote_tree_unref(t);
}

void remote_node_unref(struct remote_node *n) {
        if (!n)
                return;
        assert(n->refs > 0);
        n->refs--;
        free_if_unused(n);
}

void remote_forget(struct remote_node *n, uint64_t lookups) {
        if (n == n->tree->root)
                return;
        assert(n->lookups >= lookups);
        n->lookups -= lookups;
        free_if_unused(n);
}

/* their names */

struct remote_node *remote_node_find(struct remote_node *dir, const char *name, size_t len) {
        static union {
                struct remote_key key;
                char room[KEY_SIZE(NAME_MAX)];
        } wanted;
        struct remote_node *n;

        if (len > NAME_MAX)
                return NULL;
        wanted.key.parent = dir;
        memcpy(wanted.key.name, name, len);
        HASH_FIND(hh, dir->tree->by_key, &wanted, KEY_SIZE(len), n);
        return n;
}

static int attach(struct remote_node *n, struct remote_node *dir, const char *name, size_t len) {
        struct remote_key *key = malloc(KEY_SIZE(len) + 1);

        if (!key)
                return -ENOMEM;
        key->parent = dir;
        memcpy(key->name, name, len);
        key->name[len] = '\0';
        n->key = key;
        n->parent = remote_node_ref(dir);
        list_add_tail(&dir->children, &n->children_link);
        HASH_ADD_KEYPTR(hh, n->tree->by_key, key, KEY_SIZE(len), n);
        return 0;
}

void remote_node_detach(struct remote_node *n) {
        struct remote_node *parent = TAKE_PTR(n->parent);

        if (!parent)
                return;
        HASH_DELETE(hh, n->tree->by_key, n);
        list_remove(&n->children_link);
        free(TAKE_PTR(n->key));
        n->asked_us = n->named_us = 0;
        remote_node_unref(parent);
}

int remote_node_move(struct remote_node *n, struct remote_node *dir, const char *name) {
        struct remote_node *there = remote_node_find(dir, name, strlen(name));
        int r;

        if (there == n)
                return 0;
        remote_node_ref(n);
        remote_node_ref(dir);
        if (there)
                remote_node_detach(there);
        remote_node_detach(n);
        r = attach(n, dir, name, strlen(name));
        remote_node_unref(dir);
        remote_node_unref(n);
        return r;
}

static bool is_same_file(const struct file_attributes *a, const struct file_attributes *b) {
        return a->ino == b->ino && a->dev == b->dev && (a->mode & S_IFMT) == (b->mode & S_IFMT);
}

static void set_attributes(struct remote_node *n, const struct file_attributes *a, int64_t asked_us) {
        n->attributes = *a;
        n->known = true;
        n->asked_us = asked_us;
}

struct remote_node *remote_node_take(struct remote_node *dir, const char *name, size_t len, const struct file_attributes *a,
                                     int64_t asked_us) {
        struct remote_node *n = remote_node_find(dir, name, len);

        if (n && n->known && !is_same_file(&n->attributes, a)) {
                remote_node_ref(n);
                remote_node_detach(n);
                remote_node_unref(n);
                n = NULL;
        }
        if (!n) {
                n = node_new(dir->tree);
                if (!n)
                        return NULL;
                if (attach(n, dir, name, len) < 0) {
                        free_if_unused(n);
                        return NULL;
                }
                list_add_tail(&dir->tree->nodes, &n->link);
        }
        n->named_us = remote_node_is_true(dir, asked_us) ? asked_us : 0;
        set_attributes(n, a, n->named_us);
        return n;
}

int remote_node_update_open(struct remote_node *n, const struct file_attributes *a, int64_t asked_us) {
        if (n->known && !is_same_file(&n->attributes, a)) {
                if (n->parent)
                        n->parent->complete_us = 0; /* the name is there, and has no node */
                remote_node_detach(n);
                return -ESTALE;
        }
        set_attributes(n, a, asked_us);
        return 0;
}

int remote_node_update(struct remote_node *n, const struct file_attributes *a, int64_t asked_us) {
        int r = remote_node_update_open(n, a, asked_us);

        if (r == 0)
                n->named_us = asked_us;
        return r;
}

bool remote_node_has_links(const struct remote_node *n) {
        return n->known && n->attributes.nlink > 1 && !S_ISDIR(n->attributes.mode);
}

/* What the kernel believes of the other names of the same file. */
static void take_back_links(const struct remote_node *changed) {
        struct list pending = LIST_INIT(pending);
        struct remote_node *n;

        list_move_all(&pending, &changed->tree->told);
        while ((n = list_first(&pending, struct remote_node, told_link))) {
                list_remove(&n->told_link);
                list_add_tail(&changed->tree->told, &n->told_link);
                if (n == changed || !is_same_file(&n->attributes, &changed->attributes))
                        continue;
                remote_node_take_back(n);
        }
}

/* Which these names are is not known: an answer that is under way may bring one. */
void remote_node_links_changed(struct remote_node *n, int64_t at_us) {
        if (!remote_node_has_links(n))
                return;
        if (n->tree->links_us < at_us)
                n->tree->links_us = at_us;
        take_back_links(n);
}

void remote_node_changed(struct remote_node *n) {
        n->changed_us = remote_now(n->tree);
        remote_node_links_changed(n, n->changed_us);
}

bool remote_node_is_true(const struct remote_node *n, int64_t asked_us) {
        return asked_us > n->changed_us && asked_us > n->tree->changed_us &&
               clock_after(asked_us, FRESH_US) > remote_now(n->tree);
}

bool remote_node_is_named(const struct remote_node *n) {
        return n->known && n->parent && n->named_us > n->tree->changed_us &&
               clock_after(n->named_us, FRESH_US) > remote_now(n->tree);
}

bool remote_node_is_fresh(const struct remote_node *n) {
        return n->known && remote_node_is_true(n, n->asked_us) && (!remote_node_has_links(n) || n->asked_us > n->tree->links_us);
}

int remote_node_path(const struct remote_node *n, char *out, size_t size) {
        char *at = out + size - 1;

        *at = '\0';
        for (; n != n->tree->root; n = n->parent) {
                size_t len;

                if (!n->parent)
                        return -ESTALE;
                len = strlen(n->key->name);
                if ((size_t)(at - out) < len + 1)
                        return -ENAMETOOLONG;
                at -= len;
                memcpy(at, n->key->name, len);
                *--at = '/';
        }
        at += *at == '/';
        memmove(out, at, out + size - at);
        return 0;
}

unsigned remote_node_depth(const struct remote_node *n) {
        unsigned depth = 0;

        for (; n && n != n->tree->root; n = n->parent)
                depth++;
        return depth;
}

const char *remote_node_name(const struct remote_node *n) {
        return n->key ? n->key->name : "";
}

bool remote_is_name(const char *name, size_t len) {
        if (len == 0 || len > NAME_MAX || memchr(name, '/', len) || memchr(name, '\0', len))
                return false;
        return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

/* what the kernel is told */

/* Files of two file systems inside may have one number. */
static uint64_t shown_number(const struct remote_node *n) {
        const struct file_attributes *root = &n->tree->root->attributes;

        if (!n->tree->root->known || n->attributes.dev == root->dev)
                return n->attributes.ino;
        return n->attributes.ino ^ (n->attributes.dev * UINT64_C(0x9e3779b97f4a7c15));
}

/* One that jobs have made is shown as what cannot be opened: to open a fifo would wait here, for nobody inside. */
static mode_t shown_mode(const struct remote_node *n) {
        mode_t mode = n->attributes.mode;

        return S_ISFIFO(mode) && !n->made ? (mode & ~(mode_t)S_IFMT) | S_IFSOCK : mode;
}

static struct timespec shown_time(const struct file_time *t) {
        return (struct timespec){ .tv_sec = t->s, .tv_nsec = t->ns };
}

void remote_node_stat(const struct remote_node *n, struct stat *st) {
        const struct file_attributes *a = &n->attributes;
        bool ids = remote_shows_ids(n->tree);

        *st = (struct stat){
                .st_ino = shown_number(n),
                .st_mode = shown_mode(n),
                .st_nlink = a->nlink,
                .st_uid = ids ? a->uid : lease_uid(n->tree->lease),
                .st_gid = ids ? a->gid : lease_gid(n->tree->lease),
                .st_rdev = a->rdev,
                .st_size = (off_t)a->size,
                .st_blocks = (blkcnt_t)a->blocks,
                .st_blksize = 128 << 10,
                .st_atim = shown_time(&a->atime),
                .st_mtim = shown_time(&a->mtime),
                .st_ctim = shown_time(&a->ctime),
        };
}

double remote_node_tell(struct remote_node *n) {
        list_remove(&n->told_link);
        if (!remote_node_is_fresh(n))
                return 0;
        n->told_us = clock_after(n->asked_us, FRESH_US);
        list_add_tail(&n->tree->told, &n->told_link);
        return (double)(n->told_us - remote_now(n->tree)) / USEC_PER_SEC;
}

void remote_node_take_back(struct remote_node *n) {
        list_remove(&n->told_link);
        if (n->told_us > remote_now(n->tree) && n->lookups > 0)
                fuse_lowlevel_notify_inval_inode(n->tree->fs->fuse, remote_node_number(n), -1, 0);
}

bool remote_node_keeps_pages(struct remote_node *n, const struct file_attributes *a) {
        struct remote_version v = { .size = a->size, .mtime = a->mtime, .ctime = a->ctime };
        bool keeps = n->has_pages && n->pages.size == v.size && n->pages.mtime.s == v.mtime.s &&
                     n->pages.mtime.ns == v.mtime.ns && n->pages.ctime.s == v.ctime.s && n->pages.ctime.ns == v.ctime.ns;

        n->has_pages = true;
        n->pages = v;
        return keeps;
}
