/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "fs/remote/ahead.h"
#include "fs/remote/link.h"
#include "fs/remote/remote.h"
#include "fs/remote/request.h"

static struct remote_request *of(struct request *r) {
        return container_of(r, struct remote_request, request);
}

static void succeed_status(struct request *r, fuse_req_t req, int64_t result) {
        fuse_reply_err(req, 0);
}

/* Where the kernel does not want the answer any more, it does not count it. */
static void succeed_entry(struct request *request, fuse_req_t req, int64_t result) {
        struct remote_node *n = of(request)->made;
        struct fuse_entry_param e = { .ino = remote_node_number(n), .generation = 1 };

        remote_node_stat(n, &e.attr);
        e.attr_timeout = remote_node_tell(n);
        n->lookups++;
        if (fuse_reply_entry(req, &e) == -ENOENT)
                n->lookups--;
}

static void take_caller(struct remote_request *r, fuse_req_t req) {
        const struct fuse_ctx *caller = fuse_req_ctx(req);

        r->uid = caller->uid;
        r->gid = caller->gid;
}

/* What is made belongs to root inside, or to the caller where ids are those inside. */
static void name_owner(const struct remote_request *r, struct file_call_args *a) {
        if (!remote_shows_ids(r->tree) || r->uid == 0)
                return;
        a->uid = r->uid;
        a->gid = r->gid;
}

/* a name in a directory becomes a node */

static int64_t take_entry(struct remote_request *r, const uint8_t *data, size_t len) {
        struct remote_node *dir = r->node2 ?: r->node;
        const char *name = r->name2 ?: r->name;
        struct file_attributes a;
        int error = file_get_attributes(&a, data, len);

        if (error < 0)
                return error;
        r->made = remote_node_take(dir, name, strlen(name), &a, r->asked_us);
        if (!r->made)
                return -ENOMEM;
        remote_node_ref(r->made);
        return 0;
}

static int64_t take_made(struct remote_request *r, const uint8_t *data, size_t len) {
        int64_t result = take_entry(r, data, len);

        if (result == 0)
                remote_take_directory(r, r->node2 ?: r->node, data + FILE_ATTRIBUTES_SIZE, len - FILE_ATTRIBUTES_SIZE);
        return result;
}

static int args_lookup(struct remote_request *r, struct file_call_args *a) {
        a->op = FILE_OP_LOOKUP;
        return remote_name_in(a, r->node, r->name);
}

/* It is not there, and no node stands for it any more. */
static int64_t fail_lookup(struct remote_request *r, int error) {
        struct remote_node *n = error == ENOENT && r->node->tree->root ? remote_node_find(r->node, r->name, strlen(r->name)) : NULL;

        if (n) {
                remote_node_ref(n);
                remote_node_detach(n);
                remote_node_unref(n);
        }
        return -error;
}

static const struct remote_op lookup_op = { REMOTE_KIND(succeed_entry), args_lookup, take_entry, fail_lookup };

static bool is_absent(const struct remote_node *dir) {
        int64_t since_us = dir->complete_us; /* what was made or removed here since is known */

        return since_us > dir->tree->changed_us && clock_after(since_us, FRESH_US) > remote_now(dir->tree);
}

static int check_name(const char *name) {
        return strlen(name) > NAME_MAX ? -ENAMETOOLONG : remote_is_name(name, strlen(name)) ? 0 : -EINVAL;
}

/* With a copy of the name. */
static struct remote_request request_for(const struct remote_op *op, fuse_req_t req, struct remote_node *n, const char *name) {
        struct remote_request r = REMOTE_REQUEST_INIT(op, req, n);

        list_init(&r.waiting);
        r.name = strdup(name);
        return r;
}

static void start_named(struct remote_request *r) {
        int error = r->name ? check_name(r->name) : -ENOMEM;

        if (error == 0)
                remote_start(r);
        else
                remote_answer(r, error);
}

void remote_lookup(fuse_req_t req, struct remote_node *n, const char *name) {
        struct remote_request r = request_for(&lookup_op, req, n, name);
        struct remote_node *known = remote_node_find(n, name, strlen(name));
        bool absent = false;

        if (!r.name || check_name(name) != 0) {
                start_named(&r); /* which says what is wrong with it, not that it is absent */
                return;
        }
        if (known ? !remote_node_is_fresh(known) || !remote_node_is_named(known) : !is_absent(n))
                known = remote_ahead_lookup(n, name, &absent) ?: known;
        if (known && remote_node_is_named(known) && (remote_node_is_fresh(known) || S_ISDIR(known->attributes.mode))) {
                r.made = remote_node_ref(known);
                remote_answer(&r, 0);
        } else if (absent || (!known && is_absent(n))) {
                remote_answer(&r, -ENOENT);
        } else {
                start_named(&r);
        }
}

/* what is made */

static int args_make(struct remote_request *r, struct file_call_args *a) {
        a->op = S_ISDIR(r->mode) ? FILE_OP_MKDIR : S_ISLNK(r->mode) ? FILE_OP_SYMLINK : FILE_OP_MKNOD;
        a->mode = r->mode;
        a->data = r->text;
        a->len = r->text_len;
        name_owner(r, a);
        return remote_name_in(a, r->node, r->name);
}

static int64_t take_made_here(struct remote_request *r, const uint8_t *data, size_t len) {
        int64_t result = take_made(r, data, len);

        if (result == 0) {
                r->made->made = S_ISFIFO(r->made->attributes.mode);
                r->made->complete_us = S_ISDIR(r->made->attributes.mode) ? r->asked_us : 0; /* it is empty */
        }
        return result;
}

static const struct remote_op make_op = { REMOTE_KIND(succeed_entry), args_make, take_made_here, .changes = true };

static void make(fuse_req_t req, struct remote_node *n, const char *name, mode_t mode, const char *target) {
        struct remote_request r = request_for(&make_op, req, n, name);

        take_caller(&r, req);
        r.mode = mode;
        if (target) {
                r.text = strdup(target);
                r.text_len = strlen(target);
        }
        if (target && !r.text)
                remote_answer(&r, -ENOMEM);
        else
                start_named(&r);
}

void remote_mkdir(fuse_req_t req, struct remote_node *n, const char *name, mode_t mode) {
        make(req, n, name, S_IFDIR | (mode & 07777), NULL);
}

void remote_mknod(fuse_req_t req, struct remote_node *n, const char *name, mode_t mode) {
        make(req, n, name, mode, NULL);
}

void remote_symlink(fuse_req_t req, const char *target, struct remote_node *n, const char *name) {
        make(req, n, name, S_IFLNK | 0777, target);
}

static int args_link(struct remote_request *r, struct file_call_args *a) {
        int error = remote_name_node(a, r->node);

        a->op = FILE_OP_LINK;
        return error < 0 ? error : remote_name_second(a, r->node2, r->name2);
}

/* The kernel takes no other type for it than that of the file. */
static int64_t take_link(struct remote_request *r, const uint8_t *data, size_t len) {
        int64_t result = take_made(r, data, len);

        if (result == 0)
                r->made->made = r->node->made;
        return result;
}

static const struct remote_op link_op = { REMOTE_KIND(succeed_entry), args_link, take_link, .changes = true };

void remote_link(fuse_req_t req, struct remote_node *file, struct remote_node *n, const char *name) {
        struct remote_request r = REMOTE_REQUEST_INIT(&link_op, req, file);
        int error = check_name(name);

        list_init(&r.waiting);
        if (file->tree != n->tree)
                error = -EXDEV;
        r.node2 = remote_node_ref(n);
        r.name2 = strdup(name);
        if (!r.name2)
                error = -ENOMEM;
        if (error < 0)
                remote_answer(&r, error);
        else
                remote_start(&r);
}

/* what goes */

static int args_remove(struct remote_request *r, struct file_call_args *a) {
        a->op = r->flags ? FILE_OP_RMDIR : FILE_OP_UNLINK;
        return remote_name_in(a, r->node, r->name);
}

static int64_t take_removed(struct remote_request *r, const uint8_t *data, size_t len) {
        struct remote_node *n = r->node->tree->root ? remote_node_find(r->node, r->name, strlen(r->name)) : NULL;

        if (n) {
                remote_node_ref(n);
                remote_node_changed(n);
                remote_node_detach(n);
                remote_node_unref(n);
        }
        remote_take_directory(r, r->node, data, len);
        return 0;
}

static const struct remote_op remove_op = { REMOTE_KIND(succeed_status), args_remove, take_removed, fail_lookup, .changes = true };

static void remove_name(fuse_req_t req, struct remote_node *n, const char *name, bool directory) {
        struct remote_request r = request_for(&remove_op, req, n, name);

        r.flags = directory;
        start_named(&r);
}

void remote_unlink(fuse_req_t req, struct remote_node *n, const char *name) {
        remove_name(req, n, name, false);
}

void remote_rmdir(fuse_req_t req, struct remote_node *n, const char *name) {
        remove_name(req, n, name, true);
}

static int args_rename(struct remote_request *r, struct file_call_args *a) {
        int error = remote_name_in(a, r->node, r->name);

        a->op = FILE_OP_RENAME;
        a->flags = r->flags;
        return error < 0 ? error : remote_name_second(a, r->node2, r->name2);
}

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

/* Where both names are of one file, a rename does nothing, and the old one stays. */
static bool may_be_both(const struct remote_request *r, const struct remote_node *one) {
        return !(r->flags & RENAME_EXCHANGE) &&
               (!one || !one->known || remote_node_has_links(one));
}

static int64_t take_renamed(struct remote_request *r, const uint8_t *data, size_t len) {
        struct remote_node *one, *other;

        if (!r->tree->root)
                return 0;
        one = remote_node_find(r->node, r->name, strlen(r->name));
        other = remote_node_find(r->node2, r->name2, strlen(r->name2));
        r->tree->renames++;
        if (one)
                remote_node_ref(one);
        if (other)
                remote_node_ref(other);
        if (may_be_both(r, one))
                r->node->complete_us = 0; /* that the old name is not known does not mean that it is gone */
        if (one)
                (void)remote_node_move(one, r->node2, r->name2);
        else if (other)
                remote_node_detach(other);
        if (other && r->flags & RENAME_EXCHANGE)
                (void)remote_node_move(other, r->node, r->name);
        if (one)
                remote_node_changed(one);
        if (other)
                remote_node_changed(other);
        if (len == 2 * FILE_ATTRIBUTES_SIZE) {
                remote_take_directory(r, r->node, data, len);
                remote_take_directory(r, r->node2, data + FILE_ATTRIBUTES_SIZE, FILE_ATTRIBUTES_SIZE);
        }
        remote_node_unref(one);
        remote_node_unref(other);
        return 0;
}

static const struct remote_op rename_op = { REMOTE_KIND(succeed_status), args_rename, take_renamed, .changes = true };

void remote_rename(fuse_req_t req, struct remote_node *n, const char *name, struct remote_node *to, const char *new_name,
                   unsigned flags) {
        struct remote_request r = request_for(&rename_op, req, n, name);
        int error = check_name(new_name);

        r.flags = flags;
        r.node2 = remote_node_ref(to);
        r.name2 = strdup(new_name);
        if (n->tree != to->tree)
                error = -EXDEV;
        if (!r.name2)
                error = -ENOMEM;
        if (error < 0)
                remote_answer(&r, error);
        else
                start_named(&r);
}

/* where links lead to */

static int args_readlink(struct remote_request *r, struct file_call_args *a) {
        a->op = FILE_OP_READLINK;
        return remote_name_node(a, r->node);
}

static int64_t take_readlink(struct remote_request *r, const uint8_t *data, size_t len) {
        if (!r->node->parent)
                return -ESTALE;
        r->reply = malloc(PATH_MAX);
        if (!r->reply)
                return -ENOMEM;
        return remote_link_target(remote_node_depth(r->node->parent), (const char *)data, len, r->reply, PATH_MAX);
}

static void succeed_readlink(struct request *request, fuse_req_t req, int64_t result) {
        fuse_reply_readlink(req, of(request)->reply);
}

/* Its name stands for something else now. */
static int64_t fail_readlink(struct remote_request *r, int error) {
        remote_node_changed(r->node);
        return error == EINVAL || error == ENOENT ? -ESTALE : -error;
}

static const struct remote_op readlink_op = { REMOTE_KIND(succeed_readlink), args_readlink, take_readlink, fail_readlink };

void remote_readlink(fuse_req_t req, struct remote_node *n) {
        struct remote_request r = REMOTE_REQUEST_INIT(&readlink_op, req, n);

        remote_start(&r);
}
