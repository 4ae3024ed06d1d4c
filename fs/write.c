/* SPDX-License-Identifier: MIT */

/* WRITE: into a file that takes all bytes at once, or into one that may have no room for them yet. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/handle.h"
#include "fs/limits.h"
#include "pool/util/clock.h"

/* The bytes that are done are counted in the request. */
struct write {
        struct request request;
        struct handle *handle;
        struct watch watch;
        const char *rest; /* what is still to be written: while it waits, in a copy */
        size_t left;      /* bytes of it */
        char *copy;
        size_t copied;
};

/* All bytes, -errno, or -EAGAIN: there is no room for the rest yet. */
static ssize_t write_try(struct write *write) {
        struct handle *h = write->handle;
        ssize_t n;

        do {
                n = h->refused ? -EINVAL : h->file->ops->write(h, write->rest, write->left);
                if (n < 0)
                        break;
                h->written += n;
                write->request.done += n;
                write->rest += n;
                write->left -= n;
        } while (write->left > 0);
        if (n == -EAGAIN)
                h->poll_writable = false; /* who polls waits for a change of that */
        return n < 0 ? n : write->request.done;
}

static void write_succeed(struct request *r, fuse_req_t req, int64_t n) {
        fuse_reply_write(req, n);
}

static void write_answered(struct request *r) {
        struct write *write = container_of(r, struct write, request);

        watch_remove(&write->watch);
        write->handle->fs->writes_waiting -= write->copied;
        free(write->copy);
}

static const struct request_kind write_kind = {
        .succeed = write_succeed,
        .answered = write_answered,
        .size = sizeof(struct write),
};

/* Try a waiting write again. */
static void on_changed(struct watch *w) {
        struct write *write = container_of(w, struct write, watch);
        struct handle *h = write->handle;
        ssize_t n = write_try(write);

        if (n != -EAGAIN)
                request_answer(&write->request, n);
        else
                watch_add(h->file->ops->watches(h), w); /* it may be another list now */
}

/* The kernel's bytes are there in this turn only. Less than all may be copied: then the answer tells how many. */
static int copy_rest(struct write *write) {
        uint64_t *all = &write->handle->fs->writes_waiting;

        if (*all + write->left > WRITES_WAITING_MAX && write->left > WRITE_WAITING_LEAST)
                write->left = WRITE_WAITING_LEAST;
        write->copy = malloc(write->left);
        if (!write->copy)
                return -ENOMEM;
        memcpy(write->copy, write->rest, write->left);
        write->rest = write->copy;
        write->copied = write->left;
        *all += write->copied;
        return 0;
}

static int write_wait(struct write *now) {
        struct handle *h = now->handle;
        struct request *r;
        struct write *write;
        int error = request_wait(&now->request, &r, &h->fs->requests, &h->writes, h->fs->clock(), USEC_NEVER);

        if (error < 0)
                return error;
        write = container_of(r, struct write, request);
        watch_init(&write->watch, on_changed);
        error = copy_rest(write);
        if (error < 0)
                request_answer(r, error);
        else
                watch_add(h->file->ops->watches(h), &write->watch);
        return 0;
}

void handle_write(struct handle *h, fuse_req_t req, const char *data, size_t len, bool nonblocking) {
        struct write now = {
                .request = REQUEST_INIT(&write_kind, req),
                .handle = h,
                .rest = data,
                .left = len,
        };
        ssize_t n = h->file->ops->write ? write_try(&now) : -EBADF;

        if (n == -EAGAIN && h->file->ops->writable && !nonblocking) {
                n = write_wait(&now);
                if (n == 0)
                        return;
        }
        request_answer(&now.request, n);
}
