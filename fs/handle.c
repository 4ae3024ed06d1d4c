/* SPDX-License-Identifier: MIT */
#include "fs/handle.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "fs/limits.h"
#include "fs/reply.h"
#include "pool/lease/connection.h"
#include "pool/lease/submit.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define POLL_READ (POLLIN | POLLRDNORM)
#define POLL_WRITE (POLLOUT | POLLWRNORM)
#define READ_MAX (1 << 20) /* bytes of one READ: what libfuse negotiates at most */

/* A READ. It holds references only while it waits. */
struct read {
        struct request request;
        struct handle *handle;
        struct job *job; /* the handle's when the READ arrived, or NULL; of one that waits a reader's reference */
        struct watch watch;
        uint64_t offset; /* where there are no offsets: the position in the job */
        size_t len;
};

static char read_buffer[READ_MAX]; /* of the one read that is being answered */

static void on_poll_changed(struct watch *w);

int handle_new(struct handle **out, const struct target *t, int flags) {
        const struct file *f = &files[t->id];
        struct handle *h;
        int r;

        /* The kernel does not check modes for root, so what the file cannot do is refused here. */
        if ((flags & O_ACCMODE) != O_RDONLY && !f->ops->write)
                return -EACCES;

        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->fs = t->fs;
        h->file = f;
        h->id = t->id;
        h->flags = flags;
        h->lease = t->lease ? lease_ref(t->lease) : NULL;
        h->pool = t->lease ? NULL : mount_pool_ref(t->pool);
        h->job = t->job ? job_reader_ref(t->job) : NULL;
        h->stream = f->ops->stream;
        h->text = (struct buf)BUF_INIT(TEXT_FILE_MAX);
        list_init(&h->link);
        h->port = t->port;
        list_init(&h->connection_watches);
        list_init(&h->opens);
        list_init(&h->reads);
        list_init(&h->writes);
        watch_init(&h->watch, on_poll_changed);
        list_add_tail(&h->fs->handles, &h->link);

        r = f->ops->open ? f->ops->open(h) : 0;
        if (r == 0 && flags & O_TRUNC && handle_can_write(h) && f->ops->truncate)
                r = f->ops->truncate(h);
        if (r < 0) {
                h->refused = true;
                handle_free(h);
                return r;
        }
        *out = h;
        return 0;
}

/* The OPEN waits, and the handle is no more its own. */
static void cancel_open(struct handle *h) {
        struct open_request *o = TAKE_PTR(h->opening);

        if (!o)
                return;
        o->handle = NULL;
        request_answer(&o->request, -EBADF);
}

void handle_free(struct handle *h) {
        cancel_open(h);
        requests_answer_owned(&h->reads, -EBADF);
        requests_answer_owned(&h->writes, -EBADF);
        if (h->file->ops->release && !h->refused)
                h->file->ops->release(h);
        if (h->poll)
                fuse_pollhandle_destroy(h->poll);
        watch_remove(&h->watch);
        if (h->draft)
                lease_discard(h->lease, h->draft);
        if (h->connected)
                lease_disconnect(h->lease, &h->connection);
        blob_deinit(&h->blob);
        buf_deinit(&h->text);
        job_reader_unref(h->job);
        lease_unref(h->lease);
        mount_pool_unref(h->pool);
        list_remove(&h->link);
        free(h);
}

struct target handle_target(const struct handle *h) {
        return (struct target){ .fs = h->fs, .id = h->id, .pool = h->pool, .lease = h->lease, .job = h->job,
                               .port = h->port };
}

/* Bytes of @j were given, up to @position. */
static void advance(struct handle *h, const struct job *j, uint64_t position) {
        struct read *read;

        if (j == h->job)
                h->position = position;
        if (!h->stream)
                return;
        /* Readers of one description share its bytes. */
        list_for_each (read, &h->reads, request.link)
                if (read->job == j)
                        read->offset = position;
}

/* The bytes in read_buffer, 0 at the end, -errno, or -EAGAIN: not yet. */
static ssize_t read_try(struct read *read) {
        struct handle *h = read->handle;
        ssize_t n = h->file->ops->read(h, read->job, read->offset, read_buffer, read->len);

        if (n > 0)
                advance(h, read->job, read->offset + n);
        return n;
}

static void read_succeed(struct request *r, fuse_req_t req, int64_t n) {
        fuse_reply_buf(req, read_buffer, n);
}

static void read_answered(struct request *r) {
        struct read *read = container_of(r, struct read, request);

        watch_remove(&read->watch);
        job_reader_unref(read->job);
}

static const struct request_kind read_kind = {
        .succeed = read_succeed,
        .answered = read_answered,
        .size = sizeof(struct read),
};

/* Try a waiting read again. */
static void on_read_changed(struct watch *w) {
        struct read *read = container_of(w, struct read, watch);
        ssize_t n = read_try(read);

        if (n != -EAGAIN)
                request_answer(&read->request, n);
}

static int read_wait(struct read *now) {
        struct handle *h = now->handle;
        struct request *r;
        struct read *read;
        int error;

        error = request_wait(&now->request, &r, &h->fs->requests, &h->reads, h->fs->clock(), USEC_NEVER);
        if (error < 0)
                return error;
        read = container_of(r, struct read, request);
        if (read->job)
                job_reader_ref(read->job);
        watch_init(&read->watch, on_read_changed);
        watch_add(h->file->ops->watches(h), &read->watch);
        return 0;
}

void handle_read(struct handle *h, fuse_req_t req, uint64_t offset, size_t len, bool nonblocking) {
        const struct file_ops *ops = h->file->ops;
        ssize_t n = ops->read_arrives ? ops->read_arrives(h) : 0;
        struct read read = {
                .request = REQUEST_INIT(&read_kind, req),
                .handle = h,
                .job = h->job,
                .offset = h->stream ? h->position : offset,
                .len = len < READ_MAX ? len : READ_MAX,
        };

        if (n == 0) {
                if (!h->stream)
                        h->position = offset; /* what poll is asked about next, also when there is nothing yet */
                n = ops->read ? read_try(&read) : -EINVAL;
        }
        if (n == -EAGAIN && !nonblocking) {
                n = read_wait(&read);
                if (n == 0)
                        return;
        }
        request_answer(&read.request, n);
}

void handle_refuse(struct handle *h) {
        h->refused = true;
        blob_clear(&h->blob);
        buf_clear(&h->text);
}

int handle_truncate(struct handle *h, uint64_t size) {
        int r = 0;

        if (h->refused)
                return -EINVAL;
        if (size == 0 && !h->wrote && h->file->ops->truncate)
                r = h->file->ops->truncate(h);
        if (r < 0 || size == h->written)
                return r;
        if (h->lease)
                lease_remark(h->lease, "%s: refused: cut to %" PRIu64 " bytes, where %" PRIu64 " were written",
                             h->file->name, size, h->written);
        if (h->file->ops->truncate)
                (void)h->file->ops->truncate(h);
        handle_refuse(h);
        return -EINVAL;
}

static bool is_ready(const struct handle *h) {
        return !h->file->ops->ready || h->file->ops->ready(h);
}

static bool is_writable(const struct handle *h) {
        return h->file->ops->writable ? h->file->ops->writable(h) : h->file->ops->write != NULL;
}

/* A poll waits for the job that the handle is bound to now. */
static void watch_for_poll(struct handle *h) {
        struct list *watches = h->poll && h->file->ops->watches ? h->file->ops->watches(h) : NULL;

        watch_remove(&h->watch);
        if (watches)
                watch_add(watches, &h->watch);
}

static void poll_answer(struct handle *h) {
        struct fuse_pollhandle *ph = TAKE_PTR(h->poll);

        watch_remove(&h->watch);
        fuse_lowlevel_notify_poll(ph);
        fuse_pollhandle_destroy(ph);
}

/* Whether it is time: more can be read, where reads wait, or one can write who could not. */
static bool poll_is_due(const struct handle *h) {
        return (h->poll_wanted & POLL_READ && h->file->ops->ready && is_ready(h)) ||
               (h->poll_wanted & POLL_WRITE && !h->poll_writable && is_writable(h));
}

/* After a notification the kernel polls again with a new handle. */
static void on_poll_changed(struct watch *w) {
        struct handle *h = container_of(w, struct handle, watch);

        if (poll_is_due(h))
                poll_answer(h);
}

/* @ph takes the place of one that may be another poller's, and stands for both. */
static void poll_wait(struct handle *h, unsigned wanted, struct fuse_pollhandle *ph) {
        if (h->poll)
                fuse_pollhandle_destroy(h->poll);
        else
                h->poll_wanted = 0;
        h->poll = ph;
        h->poll_wanted |= wanted ?: POLL_READ | POLL_WRITE;
        h->poll_writable = is_writable(h);
        watch_for_poll(h);
}

unsigned handle_poll(struct handle *h, unsigned wanted, struct fuse_pollhandle *ph) {
        unsigned waits = POLL_READ | (h->file->ops->writable ? POLL_WRITE : 0);

        if (ph && wanted && !(wanted & waits))
                fuse_pollhandle_destroy(ph); /* what it asks about never changes */
        else if (ph)
                poll_wait(h, wanted, ph);
        return (is_ready(h) ? POLLIN : 0) | (is_writable(h) ? POLLOUT : 0);
}

void handle_bind(struct handle *h, struct job *job) {
        watch_remove(&h->watch); /* nobody may watch a job that is gone */
        if (job)
                job_reader_ref(job);
        job_reader_unref(h->job);
        h->job = job;
        h->position = 0;
        watch_for_poll(h);
        if (h->poll && poll_is_due(h))
                poll_answer(h);
}

void handles_free_all(struct fs *fs) {
        struct handle *h;

        while ((h = list_first(&fs->handles, struct handle, link))) {
                h->refused = true;
                handle_free(h);
        }
}

ssize_t read_text(const struct buf *text, uint64_t offset, char *data, size_t len) {
        if (offset >= text->len)
                return 0;
        if (len > text->len - offset)
                len = text->len - offset;
        memcpy(data, text->data + offset, len);
        return len;
}

ssize_t read_rendered(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        struct target t = handle_target(h);
        struct buf text = BUF_INIT(TEXT_FILE_MAX);
        ssize_t n = h->file->render(&t, &text);

        if (n == 0)
                n = read_text(&text, offset, data, len);
        buf_deinit(&text);
        return n;
}
