/* SPDX-License-Identifier: MIT */
#include "fs/remote/ready.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/remote/ahead.h"
#include "fs/remote/dir.h"
#include "fs/remote/file.h"
#include "fs/remote/remote.h"
#include "fs/remote/request.h"

#define SMALL_MAX (HELPER_DATA_MAX - FILE_HANDLE_HEAD_SIZE - 1) /* bytes that come with an answer */

#define NEIGHBOURS_MAX (4 * READY_MAX) /* that are looked at for one file */

/* The tree's readies have all; n->ready is this one as long as it may be taken. */
struct remote_ready {
        struct list link;
        struct remote_node *node; /* a reference */
        struct file_call call;
        int64_t asked_us;
        bool have, dropped; /* dropped: it goes when its answer comes */
        uint64_t handle;
        struct file_attributes attributes;
        size_t len;
        uint8_t *data;
};

static bool is_recent(const struct remote_tree *t, int64_t us) {
        return us && clock_after(us, FRESH_US) > remote_now(t);
}

static void leave_node(struct remote_ready *r) {
        if (r->node->ready == r)
                r->node->ready = NULL;
}

/* It has no handle, or that is somebody else's now. */
static void ready_free(struct remote_ready *r) {
        leave_node(r);
        list_remove(&r->link);
        if (r->have)
                r->node->tree->n_readies--;
        else
                r->node->tree->n_ready_asks--;
        remote_node_unref(r->node);
        free(r->data);
        free(r);
}

static void ready_drop(struct remote_ready *r) {
        struct remote_tree *t = r->node->tree;

        leave_node(r);
        r->dropped = true;
        if (!r->have)
                return;
        if (!t->over)
                remote_close_handle(t, r->handle);
        ready_free(r);
}

static void drop_old(struct remote_tree *t) {
        struct remote_ready *r, *tmp;

        list_for_each_safe (r, tmp, &t->readies, link)
                if (r->have && (!is_recent(t, r->asked_us) || r->asked_us <= t->changed_us))
                        ready_drop(r);
}

void remote_ready_end(struct remote_tree *t) {
        struct remote_ready *r, *tmp;

        list_for_each_safe (r, tmp, &t->readies, link)
                ready_drop(r);
}

/* asking */

/* 0: it is to be kept. */
static int take_answer(struct remote_ready *r, const struct file_handle_head *head, const uint8_t *data, size_t len) {
        struct remote_node *n = r->node;

        if (r->dropped || !head->whole || !S_ISREG(head->attributes.mode) || len > SMALL_MAX ||
            !remote_node_is_true(n, r->asked_us))
                return -ESTALE;
        r->data = malloc(len + 1);
        if (!r->data)
                return -ENOMEM;
        memcpy(r->data, data, len);
        r->len = len;
        r->attributes = head->attributes;
        r->handle = head->handle;
        remote_file_check_belief(n, &head->attributes);
        return remote_node_update(n, &head->attributes, r->asked_us);
}

static void on_ready(struct file_call *call, int error, const void *data, size_t len) {
        struct remote_ready *r = container_of(call, struct remote_ready, call);
        struct remote_tree *t = r->node->tree;
        struct file_handle_head head;

        if (error || file_get_handle_head(&head, data, len) < 0) {
                ready_free(r);
        } else if (take_answer(r, &head, (const uint8_t *)data + FILE_HANDLE_HEAD_SIZE, len - FILE_HANDLE_HEAD_SIZE) < 0) {
                remote_close_handle(t, head.handle);
                ready_free(r);
        } else {
                r->have = true;
                t->n_ready_asks--;
                t->n_readies++;
        }
}

static bool has_room(const struct remote_tree *t) {
        return t->n_ready_asks < READY_ASKS_MAX && t->n_readies + t->n_ready_asks < READY_MAX;
}

static bool is_small(const struct file_attributes *a) {
        return S_ISREG(a->mode) && a->nlink == 1 && a->size <= SMALL_MAX;
}

static bool is_wanted(const struct remote_node *n) {
        return is_small(&n->attributes) && !n->ready && n->parent && list_empty(&n->files) && remote_node_is_fresh(n);
}

static void ask(struct remote_node *n) {
        struct file_call_args args = { .op = FILE_OP_OPEN, .flags = O_RDONLY, .uid = FILE_NO_ID, .gid = FILE_NO_ID };
        struct remote_tree *t = n->tree;
        struct remote_ready *r;

        if (remote_name_node(&args, n) < 0)
                return;
        r = calloc(1, sizeof(*r));
        if (!r)
                return;
        *r = (struct remote_ready){ .node = remote_node_ref(n), .call.done = on_ready, .asked_us = remote_now(t) };
        n->ready = r;
        list_add_tail(&t->readies, &r->link);
        t->n_ready_asks++;
        if (lease_file_call(t->lease, &args, &r->call) < 0)
                ready_free(r);
}

/* which ones */

static struct remote_node *neighbour(struct remote_node *n, bool back) {
        struct list *at = back ? n->children_link.prev : n->children_link.next;

        return at == &n->parent->children ? NULL : container_of(at, struct remote_node, children_link);
}

/* cp(1) reads by inode number, which some file systems list from the last to the first. */
static bool goes_back(struct remote_node *n) {
        struct remote_node *after = neighbour(n, false);

        return after && is_recent(n->tree, after->opened_us);
}

static void ask_neighbours(struct remote_node *n) {
        bool back = goes_back(n);

        for (unsigned i = 0; i < NEIGHBOURS_MAX && has_room(n->tree) && (n = neighbour(n, back)); i++)
                if (is_wanted(n) && !is_recent(n->tree, n->opened_us))
                        ask(n);
}

/* False: there is no room for all of it. */
static bool ask_part(struct remote_dir *d, const struct remote_part *p) {
        const uint8_t *data = p->data;
        size_t len = p->len;
        struct file_entry e;

        while (file_get_entry(&e, &data, &len) == 1) {
                struct remote_node *n;

                if (!is_small(&e.attributes) || !remote_is_name(e.name, e.name_len))
                        continue;
                if (!has_room(d->node->tree))
                        return false;
                n = remote_node_take(d->node, e.name, e.name_len, &e.attributes, p->asked_us);
                if (!n)
                        return false;
                remote_node_ref(n);
                if (is_wanted(n))
                        ask(n);
                remote_node_unref(n);
        }
        return true;
}

/* Those of the directories that a walk comes to next. */
static void ask_aheads(struct remote_tree *t) {
        struct remote_part *p;
        struct remote_dir *d;

        list_for_each (d, &t->aheads, ahead_link) {
                if (!d->ended || d->error || d->contents_asked || !remote_node_is_true(d->node, d->begun_us))
                        continue;
                list_for_each (p, &d->parts, link)
                        if (!ask_part(d, p))
                                return;
                d->contents_asked = true;
        }
}

/* Else attributes have come since, and the contents are not those of them. */
static bool is_of_version(const struct remote_ready *r, const struct file_attributes *a) {
        const struct file_attributes *b = &r->attributes;

        return a->size == b->size && a->mtime.s == b->mtime.s && a->mtime.ns == b->mtime.ns && a->ctime.s == b->ctime.s &&
               a->ctime.ns == b->ctime.ns;
}

/* Whether somebody reads one file after another. */
static bool note_open(struct remote_node *n) {
        struct remote_tree *t = n->tree;

        n->opened_us = remote_now(t);
        if (!n->parent || !is_recent(t, n->parent->read_us))
                return false;
        t->n_opened = is_recent(t, t->opened_us) ? t->n_opened + 1 : 1;
        t->opened_us = n->opened_us;
        return t->n_opened >= 2;
}

static struct remote_file *take(struct remote_node *n) {
        struct remote_ready *r = n->ready;
        struct remote_file *f;

        if (!r || !r->have)
                return NULL;
        if (!remote_node_is_true(n, r->asked_us) || !is_of_version(r, &n->attributes) ||
            !(f = remote_file_new(n, r->handle, O_RDONLY))) {
                ready_drop(r);
                return NULL;
        }
        remote_file_put_contents(f, r->data, r->len, r->asked_us);
        ready_free(r);
        return f;
}

void remote_open(fuse_req_t req, struct remote_node *n, const struct fuse_file_info *fi) {
        struct remote_file *f = NULL;
        bool walks = false;

        if ((fi->flags & (O_ACCMODE | O_TRUNC | O_APPEND)) == O_RDONLY && S_ISREG(n->attributes.mode)) {
                drop_old(n->tree);
                f = take(n);
                walks = note_open(n);
        }
        remote_file_open(req, n, fi, f);
        if (walks && !n->tree->over) {
                ask_neighbours(n);
                ask_aheads(n->tree);
        }
}
