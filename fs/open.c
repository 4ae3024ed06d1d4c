/* SPDX-License-Identifier: MIT */

/* OPEN: answered at once, or when what the file leads to is there. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fs/reply.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

static void drop_handle(struct open_request *o) {
        struct handle *h = TAKE_PTR(o->handle);

        if (!h)
                return;
        h->opening = NULL;
        h->refused = true;
        handle_free(h);
}

/* Unless the kernel has got the handle, it is no more. */
void open_answered(struct request *r) {
        struct open_request *o = container_of(r, struct open_request, request);

        watch_remove(&o->watch);
        drop_handle(o);
}

static void on_changed(struct watch *w) {
        struct open_request *o = container_of(w, struct open_request, watch);
        struct handle *h = o->handle;
        int r = h->file->ops->opened(h);

        if (r == -EAGAIN)
                watch_add(h->file->ops->watches(h), w); /* it may be another list now */
        else
                request_answer(&o->request, r);
}

static int open_wait(struct open_request *now) {
        struct handle *h = now->handle;
        struct request *r;
        int error = request_wait(&now->request, &r, &h->fs->requests, &h->opens, h->fs->clock(), USEC_NEVER);

        if (error < 0)
                return error;
        h->opening = container_of(r, struct open_request, request);
        watch_init(&h->opening->watch, on_changed);
        watch_add(h->file->ops->watches(h), &h->opening->watch);
        return 0;
}

void open_answer(struct open_request *now) {
        struct handle *h = now->handle;
        int r = h->file->ops->opened ? h->file->ops->opened(h) : 0;

        if (r == -EAGAIN && h->flags & O_NONBLOCK) {
                r = h->connected ? 0 : -EAGAIN; /* as of a socket: poll tells when it is there */
        } else if (r == -EAGAIN) {
                r = open_wait(now);
                if (r == 0)
                        return;
        }
        if (r < 0)
                drop_handle(now);
        request_answer(&now->request, r);
}

/* The kernel tells the pid as the daemon sees it, and 0 for a process that it does not see. */
void open_note_client(struct handle *h, const struct fuse_ctx *ctx) {
        struct job_client *c = &h->client;
        char path[32];
        _cleanup_(cleanup_close) int fd = -1;
        ssize_t n;

        *c = (struct job_client){ .uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid };
        snprintf(path, sizeof(path), "/proc/%d/comm", (int)ctx->pid);
        if (ctx->pid)
                fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? 0 : read(fd, c->program, sizeof(c->program) - 1);
        if (n > 0 && c->program[n - 1] == '\n')
                n--;
        c->program[n > 0 ? n : 0] = '\0';
}
