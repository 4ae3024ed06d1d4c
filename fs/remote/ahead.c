/* SPDX-License-Identifier: MIT */
#include "fs/remote/ahead.h"

#include <errno.h>
#include <string.h>

#include "fs/remote/dir.h"
#include "fs/remote/remote.h"

static bool is_recent(const struct remote_tree *t, int64_t us) {
        return us && clock_after(us, FRESH_US) > remote_now(t);
}

static bool is_of_use(const struct remote_dir *d) {
        return !d->error && remote_node_is_true(d->node, d->begun_us);
}

static void drop_old(struct remote_tree *t) {
        struct remote_dir *d;

        while ((d = list_first(&t->aheads, struct remote_dir, ahead_link)) && !is_recent(t, d->begun_us))
                remote_dir_free(d);
}

static void read_ahead(struct remote_node *n) {
        struct remote_tree *t = n->tree;
        struct remote_dir *d;

        if (n->ahead && is_of_use(n->ahead))
                return;
        if (n->ahead)
                remote_dir_free(n->ahead);
        if (t->n_aheads == AHEADS_MAX)
                return;
        d = remote_dir_new(n);
        if (!d)
                return;
        d->ahead = true;
        n->ahead = d;
        t->n_aheads++;
        list_add_tail(&t->aheads, &d->ahead_link);
        if (remote_dir_begin(d) < 0)
                remote_dir_free(d);
}

/* walks */

static void leave_walk(struct remote_node *n) {
        list_remove(&n->walk_link);
        n->tree->n_walk--;
        remote_node_unref(n);
}

static bool is_walking(const struct remote_tree *t) {
        return t->n_walked >= 2 && is_recent(t, t->walked_us);
}

/* Behind @at, which is in the walk or is the walk itself. Returns the one that the next goes behind. */
static struct list *join_walk(struct remote_node *n, struct list *at) {
        if (!S_ISDIR(n->attributes.mode) || !list_empty(&n->walk_link) || n->ahead || is_recent(n->tree, n->read_us) ||
            n->tree->n_walk == WALK_MAX)
                return at;
        remote_node_ref(n);
        list_add_head(at, &n->walk_link);
        n->tree->n_walk++;
        return &n->walk_link;
}

/* All directories of a part, in its order, before all others: a walk goes down first. */
static void walk_part(struct remote_dir *d, const struct remote_part *p) {
        struct list *at = &d->node->tree->walk;
        const uint8_t *data = p->data;
        size_t len = p->len;
        struct file_entry e;

        while (file_get_entry(&e, &data, &len) == 1) {
                struct remote_node *n;

                if (!S_ISDIR(e.attributes.mode) || !remote_is_name(e.name, e.name_len))
                        continue;
                n = remote_node_take(d->node, e.name, e.name_len, &e.attributes, p->asked_us);
                if (n) {
                        remote_node_ref(n);
                        at = join_walk(n, at);
                        remote_node_unref(n);
                }
        }
}

static void pump(struct remote_tree *t) {
        struct remote_node *n;

        while (t->n_aheads < AHEADS_MAX && (n = list_first(&t->walk, struct remote_node, walk_link))) {
                remote_node_ref(n);
                leave_walk(n);
                if (is_walking(t) && n->parent && !is_recent(t, n->read_us))
                        read_ahead(n);
                remote_node_unref(n);
        }
}

/* What the kernel knows by name is known anew. Where that is all, other names are not there. */
static void know_part(struct remote_dir *d, const struct remote_part *p) {
        const uint8_t *data = p->data;
        size_t len = p->len;
        struct file_entry e;

        while (file_get_entry(&e, &data, &len) == 1) {
                if (remote_node_find(d->node, e.name, e.name_len))
                        (void)remote_node_take(d->node, e.name, e.name_len, &e.attributes, p->asked_us);
                else
                        d->whole = false;
        }
        if (d->ended && d->whole)
                d->node->complete_us = d->begun_us;
}

void remote_ahead_go_on(struct remote_tree *t, struct remote_dir *d) {
        const struct remote_part *p = list_last(&d->parts, struct remote_part, link);

        if (t->over || d->error || !p)
                return;
        if (d->ahead)
                know_part(d, p);
        if (!is_walking(t))
                return;
        walk_part(d, p);
        pump(t);
}

/* The first that shows that this is a walk: its neighbours are next. */
static void note_walk(struct remote_node *n) {
        struct remote_tree *t = n->tree;
        struct list *at = &t->walk;
        struct remote_node *other;

        n->read_us = remote_now(t);
        if (!n->parent || !is_recent(t, n->parent->read_us))
                return;
        t->n_walked = is_recent(t, t->walked_us) ? t->n_walked + 1 : 1;
        t->walked_us = n->read_us;
        if (t->n_walked != 2)
                return;
        list_for_each (other, &n->parent->children, children_link)
                at = join_walk(other, at);
}

static struct remote_dir *take(struct remote_node *n) {
        struct remote_dir *d = n->ahead;

        drop_old(n->tree);
        note_walk(n);
        d = n->ahead;
        if (d && !is_of_use(d)) {
                remote_dir_free(d);
                d = NULL;
        }
        if (d)
                remote_dir_leave_ahead(d);
        if (is_walking(n->tree))
                pump(n->tree);
        return d;
}

void remote_opendir(fuse_req_t req, struct remote_node *n, const struct fuse_file_info *fi) {
        static char path[HELPER_PATH_MAX];
        struct fuse_file_info opened = *fi;
        struct remote_dir *d;
        int error = remote_node_path(n, path, sizeof(path));

        d = error < 0 ? NULL : take(n) ?: remote_dir_new(n);
        if (!d) { /* with ESTALE the kernel looks for the directory again */
                fuse_reply_err(req, error < 0 ? -error : ENOMEM);
                return;
        }
        opened.fh = (uintptr_t)d;
        if (fuse_reply_open(req, &opened) == -ENOENT)
                remote_dir_free(d);
}

/* names */

static struct remote_node *find(struct remote_dir *d, const char *name) {
        size_t name_len = strlen(name);
        const struct remote_part *p;

        list_for_each (p, &d->parts, link) {
                const uint8_t *data = p->data;
                size_t len = p->len;
                struct file_entry e;

                while (file_get_entry(&e, &data, &len) == 1)
                        if (e.name_len == name_len && memcmp(e.name, name, name_len) == 0)
                                return remote_node_take(d->node, name, name_len, &e.attributes, p->asked_us);
        }
        return NULL;
}

struct remote_node *remote_ahead_lookup(struct remote_node *dir, const char *name, bool *absent) {
        struct remote_tree *t = dir->tree;
        struct remote_node *n = NULL;
        int64_t missed_us = dir->missed_us;

        if (t->over || !remote_is_name(name, strlen(name)))
                return NULL;
        if (dir->ahead && is_of_use(dir->ahead)) {
                n = find(dir->ahead, name);
                *absent = !n && dir->ahead->ended;
                return n;
        }
        drop_old(t);
        dir->missed_us = remote_now(t);
        if (is_recent(t, missed_us) && !is_recent(t, dir->changed_us)) /* what is being changed is soon not true any more */
                read_ahead(dir);
        return NULL;
}

void remote_ahead_end(struct remote_tree *t) {
        struct remote_node *n;
        struct remote_dir *d;

        while ((n = list_first(&t->walk, struct remote_node, walk_link)))
                leave_walk(n);
        while ((d = list_first(&t->aheads, struct remote_dir, ahead_link)))
                remote_dir_free(d);
}
