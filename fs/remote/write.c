/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "fs/remote/file.h"
#include "fs/remote/remote.h"
#include "fs/remote/request.h"

/* A part of a write, as long as it has no answer. */
struct part {
        struct file_call call;
        struct remote_file *file;
        size_t len;
        int64_t asked_us;
};

/* A WRITE or FLUSH that waits until no more than so many bytes have no answer. */
struct drain {
        struct request request;
        struct remote_file *file;
        uint64_t most;
        int64_t result;
};

static void answer_drains(struct remote_file *f) {
        struct list pending = LIST_INIT(pending);
        struct request *request;

        list_move_all(&pending, &f->drains);
        while ((request = list_first(&pending, struct request, link))) {
                struct drain *d = container_of(request, struct drain, request);
                int error;

                list_remove(&request->link);
                list_add_tail(&f->drains, &request->link);
                if (f->n_behind > d->most)
                        continue;
                error = remote_file_take_error(f);
                request_answer(request, error < 0 ? error : d->result);
        }
}

static bool has_writes(const struct remote_node *n) {
        const struct remote_file *f;

        list_for_each (f, &n->files, link)
                if (f->n_writes > 0)
                        return true;
        return false;
}

/* Behind the last of them: calls are done in their order, so the attributes are those of all. */
static void take_attributes(struct remote_node *n, const struct part *p, const void *data, size_t len) {
        struct file_attributes a;

        if (!has_writes(n) && p->asked_us > n->changed_us && file_get_attributes(&a, data, len) == 0 &&
            remote_node_update_open(n, &a, p->asked_us) == 0)
                remote_node_links_changed(n, p->asked_us - 1);
}

static void on_written(struct file_call *call, int error, const void *data, size_t len) {
        struct part *p = container_of(call, struct part, call);
        struct remote_file *f = p->file;

        f->n_behind -= p->len;
        if (error && !f->error)
                f->error = remote_tree_error(f->node->tree, error == EBADF ? -ESTALE : -error);
        if (--f->n_writes == 0)
                lease_let_jobs(f->node->tree->lease);
        if (error)
                remote_node_changed(f->node);
        else
                take_attributes(f->node, p, data, len);
        free(p);
        answer_drains(f);
        if (f->released && f->n_writes == 0)
                remote_file_release(f);
}

static int write_part(struct remote_file *f, const char *data, size_t len, uint64_t offset) {
        struct remote_tree *t = f->node->tree;
        struct file_call_args args = { .op = FILE_OP_WRITE, .handle = f->handle, .offset = offset, .data = data, .len = len };
        struct part *p = malloc(sizeof(*p));
        int r;

        if (!p)
                return -ENOMEM;
        *p = (struct part){
                .call.done = on_written,
                .file = f,
                .len = len,
                .asked_us = remote_now(t) + 1, /* behind the change */
        };
        r = lease_file_call(t->lease, &args, &p->call);
        if (r < 0) {
                free(p);
                return remote_tree_error(t, r == -EAGAIN ? -EIO : r);
        }
        f->n_behind += len;
        if (f->n_writes++ == 0)
                lease_hold_jobs(t->lease);
        return 0;
}

static void succeed_write(struct request *r, fuse_req_t req, int64_t n) {
        fuse_reply_write(req, n);
}

static void succeed_flush(struct request *r, fuse_req_t req, int64_t result) {
        fuse_reply_err(req, 0);
}

static const struct request_kind write_kind = { .succeed = succeed_write, .size = sizeof(struct drain) };
static const struct request_kind flush_kind = { .succeed = succeed_flush, .size = sizeof(struct drain) };

static void drain(struct drain *now, int error) {
        struct remote_file *f = now->file;
        struct remote_tree *t = f->node->tree;
        struct request *waiting;

        if (error == 0 && f->n_behind > now->most)
                error = request_wait(&now->request, &waiting, &t->fs->requests, &f->drains, remote_now(t), remote_deadline(t));
        else if (error == 0)
                error = remote_file_take_error(f);
        if (now->request.req)
                request_answer(&now->request, error < 0 ? error : now->result);
}

void remote_write(fuse_req_t req, const char *data, size_t size, off_t offset, const struct fuse_file_info *fi) {
        struct remote_file *f = (struct remote_file *)(uintptr_t)fi->fh;
        struct drain d = { .request = REQUEST_INIT(&write_kind, req), .file = f, .most = BEHIND_MAX, .result = (int64_t)size };
        int error = f->dead ? f->dead : remote_file_take_error(f);

        remote_files_changed(f->node);
        for (size_t at = 0; error == 0 && at < size; at += HELPER_WRITE_MAX)
                error = write_part(f, data + at, size - at < HELPER_WRITE_MAX ? size - at : HELPER_WRITE_MAX,
                                   (uint64_t)offset + at);
        drain(&d, error);
}

/* close(2) tells of what was written before. */
void remote_flush(fuse_req_t req, const struct fuse_file_info *fi) {
        struct remote_file *f = (struct remote_file *)(uintptr_t)fi->fh;
        struct drain d = { .request = REQUEST_INIT(&flush_kind, req), .file = f };

        drain(&d, 0);
}
