/* SPDX-License-Identifier: MIT */
#include "fs/remote/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/remote/remote.h"
#include "pool/base/config.h"
#include "pool/util/cleanup.h"

static const struct remote_op *op_of(const struct remote_request *r) {
        return container_of(r->request.kind, struct remote_op, kind);
}

static struct remote_request *of_request(struct request *r) {
        return container_of(r, struct remote_request, request);
}

static void release(struct remote_request *r) {
        sandbox_file_cancel(&r->call);
        list_remove(&r->waiting);
        remote_node_unref(TAKE_PTR(r->node));
        remote_node_unref(TAKE_PTR(r->node2));
        remote_node_unref(TAKE_PTR(r->made));
        free(TAKE_PTR(r->name));
        free(TAKE_PTR(r->name2));
        free(TAKE_PTR(r->text));
        free(TAKE_PTR(r->reply));
        remote_tree_unref(TAKE_PTR(r->tree));
}

void remote_request_answered(struct request *request) {
        release(of_request(request));
}

/* One that waits is released by its kind. */
void remote_answer(struct remote_request *r, int64_t result) {
        bool waited = r->request.session;

        request_answer(&r->request, result);
        if (!waited)
                release(r);
}

void remote_take_directory(struct remote_request *r, struct remote_node *dir, const uint8_t *data, size_t len) {
        struct file_attributes a;

        if (dir->parent && file_get_attributes(&a, data, len) == 0)
                (void)remote_node_update(dir, &a, r->asked_us);
}

/* names */

static char paths[2][HELPER_PATH_MAX];

int remote_name_in(struct file_call_args *a, const struct remote_node *dir, const char *name) {
        a->dir = paths[0];
        a->name = name;
        return remote_node_path(dir, paths[0], sizeof(paths[0]));
}

int remote_name_second(struct file_call_args *a, const struct remote_node *dir, const char *name) {
        a->dir2 = paths[1];
        a->name2 = name;
        return remote_node_path(dir, paths[1], sizeof(paths[1]));
}

int remote_name_node(struct file_call_args *a, const struct remote_node *n) {
        if (n == n->tree->root)
                return remote_name_in(a, n, ".");
        if (!n->parent)
                return -ESTALE;
        return remote_name_in(a, n->parent, remote_node_name(n));
}

/* their way */

int64_t remote_deadline(const struct remote_tree *t) {
        if (lease_state(t->lease) == LEASE_WAITING)
                return USEC_NEVER;
        return clock_after(remote_now(t), t->fs->config->file_timeout_us);
}

/* A path that was made before a directory was renamed is made again, for the helper has found nothing by it. */
static bool is_misled(const struct remote_request *r, int error) {
        return (error == ENOENT || error == ENOTDIR) && r->renames != r->tree->renames;
}

static int ask(struct remote_request *r);

static void on_done(struct file_call *c, int error, const void *data, size_t len) {
        struct remote_request *r = container_of(c, struct remote_request, call);
        const struct remote_op *op = op_of(r);
        int64_t result;

        if (is_misled(r, error)) {
                result = ask(r);
                if (result == 0)
                        return;
        } else if (error) {
                result = op->fail ? op->fail(r, error) : -error;
        } else {
                result = op->take(r, data, len);
                if (op->changes)
                        remote_node_links_changed(r->node, r->asked_us - 1);
        }
        if (result == -EPROTO)
                result = -EIO; /* the helper says what cannot be */
        if (result == -ENODEV)
                result = remote_tree_error(r->tree, -ENODEV);
        remote_answer(r, result);
}

static int ask(struct remote_request *r) {
        struct file_call_args args = { .op = FILE_OP_NONE, .uid = FILE_NO_ID, .gid = FILE_NO_ID };
        int error;

        if (r->tree->over)
                return -ESTALE;
        error = op_of(r)->args(r, &args);
        if (error < 0)
                return error;
        r->call.done = on_done;
        r->renames = r->tree->renames;
        r->asked_us = remote_now(r->tree);
        if (op_of(r)->changes) {
                remote_node_changed(r->node);
                if (r->node2)
                        remote_node_changed(r->node2);
                r->asked_us = remote_now(r->tree) + 1; /* behind that: calls are done in their order */
        }
        error = lease_file_call(r->tree->lease, &args, &r->call);
        if (error == -EAGAIN) {
                list_remove(&r->waiting);
                list_add_tail(&r->tree->waiting, &r->waiting);
                return 0;
        }
        return error < 0 ? remote_tree_error(r->tree, error) : 0;
}

void remote_start(struct remote_request *now) {
        struct remote_tree *t = now->tree;
        struct request *waiting;
        struct remote_request *r;
        int error = t->over ? -ESTALE : 0;

        list_init(&now->waiting);
        if (error == 0)
                error = request_wait(&now->request, &waiting, &t->fs->requests, &t->requests, remote_now(t), remote_deadline(t));
        if (error < 0) {
                remote_answer(now, error);
                return;
        }
        r = of_request(waiting);
        list_init(&r->waiting);
        error = ask(r);
        if (error < 0)
                remote_answer(r, error);
}

void remote_requests_retry(struct remote_tree *t) {
        struct list pending = LIST_INIT(pending);
        struct remote_request *r;

        list_move_all(&pending, &t->waiting);
        while ((r = list_first(&pending, struct remote_request, waiting))) {
                int error;

                list_remove(&r->waiting);
                request_set_due(&r->request, remote_deadline(t));
                error = ask(r);
                if (error < 0)
                        remote_answer(r, error);
        }
}
