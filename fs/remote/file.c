/* SPDX-License-Identifier: MIT */
#include "fs/remote/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "fs/remote/remote.h"
#include "fs/remote/request.h"

static struct remote_request *of(struct request *r) {
        return container_of(r, struct remote_request, request);
}

static struct remote_file *file_of(const struct fuse_file_info *fi) {
        return (struct remote_file *)(uintptr_t)fi->fh;
}

/* their lives */

struct remote_file *remote_file_new(struct remote_node *n, uint64_t handle, int flags) {
        struct remote_file *f = calloc(1, sizeof(*f));

        if (!f)
                return NULL;
        f->node = remote_node_ref(n);
        f->handle = handle;
        f->flags = flags;
        f->next_offset = UINT64_MAX;
        list_init(&f->chunks);
        list_init(&f->reads);
        list_init(&f->drains);
        list_add_tail(&n->files, &f->link);
        list_add_tail(&n->tree->files, &f->link_all);
        return f;
}

static void file_free(struct remote_file *f) {
        requests_answer_owned(&f->reads, -EBADF);
        requests_answer_owned(&f->drains, -EBADF);
        remote_file_drop_chunks(f);
        list_remove(&f->link);
        list_remove(&f->link_all);
        remote_node_unref(f->node);
        free(f);
}

static void on_closed(struct file_call *call, int error, const void *data, size_t len) {
        free(call);
}

void remote_close_handle(struct remote_tree *t, uint64_t handle) {
        struct file_call_args args = { .op = FILE_OP_CLOSE, .handle = handle };
        struct file_call *call = calloc(1, sizeof(*call));

        if (!call)
                return; /* it stays open as long as the lease has the environment */
        call->done = on_closed;
        if (lease_file_call(t->lease, &args, call) < 0)
                free(call);
}

/* It is closed behind all that was written. */
void remote_file_release(struct remote_file *f) {
        if (!f->released && !f->dead)
                remote_close_handle(f->node->tree, f->handle);
        f->released = true;
        list_remove(&f->link);
        if (f->n_writes == 0)
                file_free(f);
}

uint64_t remote_open_handle_for(const struct remote_node *n, bool write) {
        const struct remote_file *f;

        list_for_each (f, &n->files, link)
                if (!f->dead && (!write || (f->flags & O_ACCMODE) != O_RDONLY))
                        return f->handle;
        return 0;
}

uint64_t remote_open_handle(const struct remote_node *n) {
        return remote_open_handle_for(n, false);
}

static void make_chunks_old(const struct remote_node *n) {
        struct remote_file *f;

        list_for_each (f, &n->files, link)
                remote_file_make_chunks_old(f);
}

void remote_files_changed(struct remote_node *n) {
        remote_node_changed(n);
        make_chunks_old(n);
}

/* Those with parts that have no answer are freed once these have: the helper ends all calls. */
void remote_files_end(struct remote_tree *t, int error) {
        struct remote_file *f;

        list_for_each (f, &t->files, link_all) {
                f->dead = error;
                if (f->n_writes > 0 && !f->error)
                        f->error = error;
                requests_answer_owned(&f->reads, error);
                requests_answer_owned(&f->drains, error);
                remote_file_drop_chunks(f);
        }
}

void remote_files_free(struct remote_tree *t) {
        struct remote_file *f, *tmp;

        list_for_each_safe (f, tmp, &t->files, link_all)
                remote_file_release(f);
}

/* open and create */

static uint32_t flags_of(const struct fuse_file_info *fi) {
        return (uint32_t)fi->flags & (O_ACCMODE | O_APPEND | O_TRUNC | O_EXCL);
}

static int args_open(struct remote_request *r, struct file_call_args *a) {
        a->op = FILE_OP_OPEN;
        a->flags = r->flags;
        return remote_name_node(a, r->node);
}

static int args_create(struct remote_request *r, struct file_call_args *a) {
        a->op = FILE_OP_CREATE;
        a->flags = r->flags;
        a->mode = r->mode;
        if (remote_shows_ids(r->tree) && r->uid != 0) {
                a->uid = r->uid;
                a->gid = r->gid;
        }
        return remote_name_in(a, r->node, r->name);
}

void remote_file_check_belief(struct remote_node *n, const struct file_attributes *now) {
        if (n->known && (n->attributes.size != now->size || n->attributes.mtime.s != now->mtime.s ||
                         n->attributes.mtime.ns != now->mtime.ns))
                remote_node_take_back(n);
}

static int64_t open_node(struct remote_request *r, struct remote_node *n, const struct file_handle_head *head,
                         const uint8_t *data, size_t len) {
        r->which = remote_node_keeps_pages(n, &head->attributes);
        r->file = remote_file_new(n, head->handle, (int)r->flags);
        if (!r->file)
                return -ENOMEM;
        if (r->flags & O_TRUNC)
                make_chunks_old(n); /* the attributes are those after it */
        if (head->whole)
                remote_file_put_contents(r->file, data + FILE_HANDLE_HEAD_SIZE, len - FILE_HANDLE_HEAD_SIZE, r->asked_us);
        return 0;
}

static int64_t take_open(struct remote_request *r, const uint8_t *data, size_t len) {
        struct file_handle_head head;
        int64_t error = file_get_handle_head(&head, data, len);

        if (error < 0)
                return error;
        remote_file_check_belief(r->node, &head.attributes);
        error = S_ISREG(head.attributes.mode) ? remote_node_update(r->node, &head.attributes, r->asked_us) : -EPROTO;
        if (error == 0)
                error = open_node(r, r->node, &head, data, len);
        if (error < 0)
                remote_close_handle(r->tree, head.handle);
        return error;
}

static int64_t take_created(struct remote_request *r, const uint8_t *data, size_t len) {
        struct file_handle_head head;
        int64_t error = file_get_handle_head(&head, data, len);

        if (error < 0)
                return error;
        head.whole = 0; /* behind it are attributes */
        if (!r->tree->root)
                error = -ESTALE;
        else if (!S_ISREG(head.attributes.mode))
                error = -EPROTO;
        else
                r->made = remote_node_take(r->node, r->name, strlen(r->name), &head.attributes, r->asked_us);
        if (r->made)
                remote_take_directory(r, r->node, data + FILE_HANDLE_HEAD_SIZE, len - FILE_HANDLE_HEAD_SIZE);
        if (r->made)
                error = open_node(r, remote_node_ref(r->made), &head, data, len);
        else if (error == 0)
                error = -ENOMEM;
        if (error < 0)
                remote_close_handle(r->tree, head.handle);
        return error;
}

/* A write that appends goes where the file ends inside, which the kernel cannot know: so it keeps no pages of it. */
static struct fuse_file_info info_of(const struct remote_request *r) {
        return (struct fuse_file_info){
                .fh = (uintptr_t)r->file,
                .flags = (int)r->flags,
                .keep_cache = r->which,
                .direct_io = (r->flags & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_WRONLY),
        };
}

static void succeed_open(struct request *request, fuse_req_t req, int64_t result) {
        struct fuse_file_info fi = info_of(of(request));

        if (fuse_reply_open(req, &fi) == -ENOENT)
                remote_file_release(of(request)->file); /* it was interrupted: no RELEASE will come */
}

static void succeed_create(struct request *request, fuse_req_t req, int64_t result) {
        struct remote_request *r = of(request);
        struct fuse_entry_param e = { .ino = remote_node_number(r->made), .generation = 1 };
        struct fuse_file_info fi = info_of(r);

        remote_node_stat(r->made, &e.attr);
        e.attr_timeout = remote_node_tell(r->made);
        r->made->lookups++;
        if (fuse_reply_create(req, &e, &fi) == -ENOENT) {
                r->made->lookups--;
                remote_file_release(r->file);
        }
}

static int64_t fail_open(struct remote_request *r, int error) {
        remote_node_changed(r->node);
        return error == ENOENT || error == ELOOP ? -ESTALE : -error; /* its name stands for something else now */
}

static const struct remote_op open_op = { REMOTE_KIND(succeed_open), args_open, take_open, fail_open };
static const struct remote_op create_op = { REMOTE_KIND(succeed_create), args_create, take_created, .changes = true };

void remote_file_open(fuse_req_t req, struct remote_node *n, const struct fuse_file_info *fi, struct remote_file *ready) {
        struct remote_request r = REMOTE_REQUEST_INIT(&open_op, req, n);

        list_init(&r.waiting);
        r.flags = flags_of(fi) & ~(uint32_t)O_EXCL;
        if (ready) {
                r.file = ready;
                r.which = remote_node_keeps_pages(n, &n->attributes);
                remote_answer(&r, 0);
        } else if (S_ISREG(n->attributes.mode)) {
                remote_start(&r);
        } else {
                remote_answer(&r, -ENXIO);
        }
}

void remote_create(fuse_req_t req, struct remote_node *n, const char *name, mode_t mode, const struct fuse_file_info *fi) {
        struct remote_request r = REMOTE_REQUEST_INIT(&create_op, req, n);
        const struct fuse_ctx *caller = fuse_req_ctx(req);

        list_init(&r.waiting);
        r.flags = flags_of(fi);
        r.mode = mode;
        r.uid = caller->uid;
        r.gid = caller->gid;
        r.name = strdup(name);
        if (strlen(name) > NAME_MAX || !remote_is_name(name, strlen(name)))
                remote_answer(&r, -ENAMETOOLONG);
        else if (!r.name)
                remote_answer(&r, -ENOMEM);
        else
                remote_start(&r);
}

void remote_release(fuse_req_t req, const struct fuse_file_info *fi) {
        remote_file_release(file_of(fi));
        fuse_reply_err(req, 0);
}

/* what is done with an open file besides reading and writing */

static void succeed_status(struct request *r, fuse_req_t req, int64_t result) {
        fuse_reply_err(req, 0);
}

static void succeed_offset(struct request *r, fuse_req_t req, int64_t offset) {
        fuse_reply_lseek(req, offset);
}

static void succeed_copy(struct request *r, fuse_req_t req, int64_t n) {
        fuse_reply_write(req, (size_t)n);
}

static int args_file(struct remote_request *r, struct file_call_args *a) {
        a->op = r->which;
        a->handle = r->file ? r->file->handle : 0;
        a->flags = r->flags;
        a->offset = r->offset;
        a->size = r->size;
        a->handle2 = r->handle2;
        a->offset2 = r->offset2;
        return r->file ? r->file->dead : remote_name_in(a, r->node, ".");
}

/* Its answer comes behind those of all writes. */
static int64_t take_synced(struct remote_request *r, const uint8_t *data, size_t len) {
        return r->file ? remote_file_take_error(r->file) : 0;
}

static int64_t take_offset(struct remote_request *r, const uint8_t *data, size_t len) {
        uint64_t value;
        int error = file_get_u64(&value, data, len);

        return error < 0 ? error : (int64_t)value;
}

static int64_t take_copied(struct remote_request *r, const uint8_t *data, size_t len) {
        int64_t n = take_offset(r, data, len);

        return n > (int64_t)r->size ? -EPROTO : n;
}

static int64_t take_allocated(struct remote_request *r, const uint8_t *data, size_t len) {
        remote_files_changed(r->node);
        return 0;
}

static const struct remote_op sync_op = { REMOTE_KIND(succeed_status), args_file, take_synced };
static const struct remote_op seek_op = { REMOTE_KIND(succeed_offset), args_file, take_offset };
static const struct remote_op copy_op = { REMOTE_KIND(succeed_copy), args_file, take_copied };
static const struct remote_op allocate_op = { REMOTE_KIND(succeed_status), args_file, take_allocated };

static struct remote_request request_for(const struct remote_op *op, enum file_op what, fuse_req_t req,
                                         const struct fuse_file_info *fi) {
        struct remote_request r = REMOTE_REQUEST_INIT(op, req, file_of(fi)->node);

        r.file = file_of(fi);
        r.which = what;
        return r;
}

void remote_fsync(fuse_req_t req, int datasync, const struct fuse_file_info *fi) {
        struct remote_request r = request_for(&sync_op, FILE_OP_SYNC, req, fi);

        r.flags = datasync ? 1 : 0;
        remote_start(&r);
}

void remote_fsyncdir(fuse_req_t req, struct remote_node *n, int datasync) {
        struct remote_request r = REMOTE_REQUEST_INIT(&sync_op, req, n);

        r.which = FILE_OP_SYNC;
        r.flags = datasync ? 1 : 0;
        remote_start(&r);
}

void remote_lseek(fuse_req_t req, off_t offset, int whence, const struct fuse_file_info *fi) {
        struct remote_request r = request_for(&seek_op, FILE_OP_SEEK, req, fi);

        r.offset = (uint64_t)offset;
        r.flags = (uint32_t)whence;
        remote_start(&r);
}

void remote_fallocate(fuse_req_t req, int mode, off_t offset, off_t length, const struct fuse_file_info *fi) {
        struct remote_request r = request_for(&allocate_op, FILE_OP_ALLOCATE, req, fi);

        r.flags = (uint32_t)mode;
        r.offset = (uint64_t)offset;
        r.size = (uint64_t)length;
        remote_files_changed(r.node);
        remote_start(&r);
}

void remote_copy(fuse_req_t req, off_t offset, const struct fuse_file_info *fi, off_t to_offset,
                 const struct fuse_file_info *to, size_t size) {
        struct remote_request r = request_for(&copy_op, FILE_OP_COPY, req, fi);

        list_init(&r.waiting);
        r.offset = (uint64_t)offset;
        r.size = size;
        r.handle2 = file_of(to)->handle;
        r.offset2 = (uint64_t)to_offset;
        remote_files_changed(file_of(to)->node);
        if (file_of(to)->node->tree != r.tree)
                remote_answer(&r, -EXDEV);
        else
                remote_start(&r);
}
