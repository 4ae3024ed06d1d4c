/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "fs/remote/file.h"
#include "fs/remote/remote.h"
#include "fs/remote/request.h"

static struct remote_request *of(struct request *r) {
        return container_of(r, struct remote_request, request);
}

static void succeed_attributes(struct request *request, fuse_req_t req, int64_t result) {
        struct remote_node *n = of(request)->node;
        struct stat st;

        remote_node_stat(n, &st);
        fuse_reply_attr(req, &st, remote_node_tell(n));
}

static int args_getattr(struct remote_request *r, struct file_call_args *a) {
        a->handle = r->handle2 = remote_open_handle(r->node);
        if (a->handle) {
                a->op = FILE_OP_STAT;
                return 0;
        }
        a->op = FILE_OP_LOOKUP;
        return remote_name_node(a, r->node);
}

static int64_t take_attributes(struct remote_request *r, const uint8_t *data, size_t len) {
        struct file_attributes a;
        int error = file_get_attributes(&a, data, len);

        if (error < 0)
                return error;
        return r->handle2 ? remote_node_update_open(r->node, &a, r->asked_us) : remote_node_update(r->node, &a, r->asked_us);
}

/* What has no name any more is gone: with ESTALE the kernel looks again, and may make a new one. */
static int64_t fail_attributes(struct remote_request *r, int error) {
        remote_node_changed(r->node);
        return error == EBADF || error == ELOOP || error == ENOENT || error == ENOTDIR ? -ESTALE : -error;
}

static const struct remote_op getattr_op = { REMOTE_KIND(succeed_attributes), args_getattr, take_attributes, fail_attributes };

void remote_getattr(fuse_req_t req, struct remote_node *n) {
        struct remote_request r = REMOTE_REQUEST_INIT(&getattr_op, req, n);

        list_init(&r.waiting);
        if (remote_node_is_fresh(n))
                remote_answer(&r, 0);
        else
                remote_start(&r);
}

static int args_setattr(struct remote_request *r, struct file_call_args *a) {
        a->op = FILE_OP_SET;
        a->which = r->which;
        a->mode = r->mode;
        a->size = r->size;
        a->uid = r->uid;
        a->gid = r->gid;
        a->atime = r->atime;
        a->mtime = r->mtime;
        a->handle = r->handle2 = remote_open_handle_for(r->node, r->which & FILE_SET_SIZE);
        return a->handle ? 0 : remote_name_node(a, r->node);
}

static const struct remote_op setattr_op = { REMOTE_KIND(succeed_attributes), args_setattr, take_attributes, fail_attributes };

static uint32_t which_of(int which) {
        static const struct {
                int kernel;
                uint32_t helper;
        } bits[] = {
                { FUSE_SET_ATTR_MODE, FILE_SET_MODE },   { FUSE_SET_ATTR_UID, FILE_SET_UID },
                { FUSE_SET_ATTR_GID, FILE_SET_GID },     { FUSE_SET_ATTR_SIZE, FILE_SET_SIZE },
                { FUSE_SET_ATTR_ATIME, FILE_SET_ATIME }, { FUSE_SET_ATTR_MTIME, FILE_SET_MTIME },
                { FUSE_SET_ATTR_ATIME_NOW, FILE_SET_ATIME_NOW }, { FUSE_SET_ATTR_MTIME_NOW, FILE_SET_MTIME_NOW },
        };
        uint32_t out = 0;

        for (size_t i = 0; i < sizeof(bits) / sizeof(*bits); i++)
                out |= which & bits[i].kernel ? bits[i].helper : 0;
        return out;
}

/* Where all is shown as the owner's, it can be given to nobody else, and to the owner it belongs already. */
static int drop_ids(struct remote_request *r, const struct stat *want) {
        if (remote_shows_ids(r->tree))
                return 0;
        if ((r->which & FILE_SET_UID && want->st_uid != lease_uid(r->tree->lease)) ||
            (r->which & FILE_SET_GID && want->st_gid != lease_gid(r->tree->lease)))
                return -EPERM;
        r->which &= ~(uint32_t)(FILE_SET_UID | FILE_SET_GID);
        return 0;
}

void remote_setattr(fuse_req_t req, struct remote_node *n, const struct stat *want, int which) {
        struct remote_request r = REMOTE_REQUEST_INIT(&setattr_op, req, n);
        int error;

        list_init(&r.waiting);
        r.which = which_of(which);
        error = n == n->tree->root ? -EPERM : drop_ids(&r, want);
        r.mode = want->st_mode & 07777;
        r.size = (uint64_t)want->st_size;
        r.uid = want->st_uid;
        r.gid = want->st_gid;
        r.atime = (struct file_time){ .s = want->st_atim.tv_sec, .ns = (uint32_t)want->st_atim.tv_nsec };
        r.mtime = (struct file_time){ .s = want->st_mtim.tv_sec, .ns = (uint32_t)want->st_mtim.tv_nsec };
        if (error == 0 && r.which & FILE_SET_SIZE)
                remote_files_changed(n);
        remote_node_changed(n);
        if (error < 0)
                remote_answer(&r, error);
        else
                remote_start(&r);
}

/* the space that there is */

static int args_statfs(struct remote_request *r, struct file_call_args *a) {
        const struct remote_node *dir = S_ISDIR(r->node->attributes.mode) || r->node == r->tree->root ? r->node : r->node->parent;

        a->op = FILE_OP_STATFS;
        return dir ? remote_name_in(a, dir, "") : -ESTALE;
}

static int64_t take_statfs(struct remote_request *r, const uint8_t *data, size_t len) {
        struct file_space s;
        int error = file_get_space(&s, data, len);

        if (error < 0)
                return error;
        r->space = (struct statvfs){
                .f_bsize = s.block_size,
                .f_frsize = s.fragment_size,
                .f_blocks = s.blocks,
                .f_bfree = s.free_blocks,
                .f_bavail = s.available_blocks,
                .f_files = s.files,
                .f_ffree = s.free_files,
                .f_favail = s.free_files,
                .f_namemax = NAME_MAX,
        };
        return 0;
}

static void succeed_statfs(struct request *request, fuse_req_t req, int64_t result) {
        fuse_reply_statfs(req, &of(request)->space);
}

static const struct remote_op statfs_op = { REMOTE_KIND(succeed_statfs), args_statfs, take_statfs };

void remote_statfs(fuse_req_t req, struct remote_node *n) {
        struct remote_request r = REMOTE_REQUEST_INIT(&statfs_op, req, n);

        remote_start(&r);
}

/* extended attributes */

static bool is_of_users(const char *name) {
        return strncmp(name, "user.", 5) == 0;
}

static int args_xattr(struct remote_request *r, struct file_call_args *a) {
        int error = remote_name_node(a, r->node);

        a->op = r->which;
        a->flags = r->flags;
        a->name2 = r->name;
        a->data = r->text;
        a->len = r->text_len;
        return error;
}

static int64_t take_bytes(struct remote_request *r, const uint8_t *data, size_t len) {
        if (r->size > 0 && len > r->size)
                return -ERANGE;
        r->reply = malloc(len + 1);
        if (!r->reply)
                return -ENOMEM;
        memcpy(r->reply, data, len);
        return (int64_t)len;
}

/* Only those of users, and no name without an end. */
static int64_t take_names(struct remote_request *r, const uint8_t *data, size_t len) {
        const char *name = (const char *)data, *end = name + len;
        size_t n = 0;

        r->reply = malloc(len + 1);
        if (!r->reply)
                return -ENOMEM;
        for (const char *nul; name < end && (nul = memchr(name, '\0', end - name)); name = nul + 1) {
                if (!is_of_users(name))
                        continue;
                memcpy(r->reply + n, name, nul + 1 - name);
                n += nul + 1 - name;
        }
        return r->size > 0 && n > r->size ? -ERANGE : (int64_t)n;
}

static int64_t take_nothing(struct remote_request *r, const uint8_t *data, size_t len) {
        remote_node_changed(r->node);
        return 0;
}

static void succeed_bytes(struct request *request, fuse_req_t req, int64_t len) {
        const struct remote_request *r = of(request);

        if (r->size == 0)
                fuse_reply_xattr(req, (size_t)len);
        else
                fuse_reply_buf(req, r->reply, (size_t)len);
}

static void succeed_status(struct request *r, fuse_req_t req, int64_t result) {
        fuse_reply_err(req, 0);
}

static const struct remote_op read_xattr_op = { REMOTE_KIND(succeed_bytes), args_xattr, take_bytes };
static const struct remote_op list_xattr_op = { REMOTE_KIND(succeed_bytes), args_xattr, take_names };
static const struct remote_op write_xattr_op = { REMOTE_KIND(succeed_status), args_xattr, take_nothing };

/* The attributes say whether there are any: so it costs no call to learn that there are none. */
static bool has_none(const struct remote_node *n) {
        return remote_node_is_fresh(n) && !(n->attributes.flags & FILE_HAS_XATTRS);
}

/* Those of security and of the system mean something to the kernel there, and nothing to this one. */
static int check_xattr(const struct remote_node *n, const char *name) {
        return n == n->tree->root ? -ENOTSUP : is_of_users(name) ? 0 : -ENOTSUP;
}

static void start_xattr(struct remote_request *r, enum file_op op, const char *name, size_t size) {
        r->which = op;
        r->size = size;
        r->name = strdup(name);
        if (r->name)
                remote_start(r);
        else
                remote_answer(r, -ENOMEM);
}

void remote_getxattr(fuse_req_t req, struct remote_node *n, const char *name, size_t size) {
        struct remote_request r = REMOTE_REQUEST_INIT(&read_xattr_op, req, n);
        int error = is_of_users(name) && n != n->tree->root && !has_none(n) ? 0 : -ENODATA;

        list_init(&r.waiting);
        if (error < 0)
                remote_answer(&r, error);
        else
                start_xattr(&r, FILE_OP_GETXATTR, name, size);
}

void remote_listxattr(fuse_req_t req, struct remote_node *n, size_t size) {
        struct remote_request r = REMOTE_REQUEST_INIT(&list_xattr_op, req, n);

        list_init(&r.waiting);
        r.size = size;
        if (n == n->tree->root || has_none(n))
                remote_answer(&r, 0);
        else
                start_xattr(&r, FILE_OP_LISTXATTR, "", size);
}

void remote_setxattr(fuse_req_t req, struct remote_node *n, const char *name, const char *value, size_t size, int flags) {
        struct remote_request r = REMOTE_REQUEST_INIT(&write_xattr_op, req, n);
        int error = check_xattr(n, name);

        list_init(&r.waiting);
        r.flags = (uint32_t)flags;
        r.text = error == 0 ? malloc(size + 1) : NULL;
        r.text_len = size;
        if (error == 0 && !r.text)
                error = -ENOMEM;
        if (r.text)
                memcpy(r.text, value, size);
        if (error < 0)
                remote_answer(&r, error);
        else
                start_xattr(&r, FILE_OP_SETXATTR, name, 0);
}

void remote_removexattr(fuse_req_t req, struct remote_node *n, const char *name) {
        struct remote_request r = REMOTE_REQUEST_INIT(&write_xattr_op, req, n);
        int error = check_xattr(n, name);

        list_init(&r.waiting);
        if (error < 0)
                remote_answer(&r, error);
        else
                start_xattr(&r, FILE_OP_REMOVEXATTR, name, 0);
}
