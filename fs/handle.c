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
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

#define READ_MAX (1 << 20) /* bytes of one READ: what libfuse negotiates at most */

/* One READ that waits. Belongs to its handle; freed when it is answered. */
struct parked {
        struct list link;        /* in the handle's */
        struct list link_in_fs;  /* in the order of their coming */
        struct handle *handle;
        struct job *job; /* a reader's reference, or NULL: the handle's when the READ arrived */
        struct watch watch;
        fuse_req_t req;
        uint64_t offset; /* where there are no offsets: the position in the job */
        size_t len;
        int64_t since_us;
};

static char read_buffer[READ_MAX]; /* of the one read that is being answered */

static void on_poll_changed(struct watch *w);

int handle_new(struct handle **out, const struct target *t, int flags) {
        const struct file *f = &files[t->id];
        struct handle *h;
        int r;

        /* Root passes the kernel's check of modes; what cannot be done is refused all the same. */
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
        h->job = t->job ? job_reader_ref(t->job) : NULL;
        h->stream = f->ops->stream;
        h->text = (struct buf)BUF_INIT(TEXT_FILE_MAX);
        list_init(&h->link);
        list_init(&h->parked);
        watch_init(&h->watch, on_poll_changed);
        list_add_tail(&h->fs->handles, &h->link);

        r = f->ops->open ? f->ops->open(h) : 0;
        if (r < 0) {
                h->refused = true;
                handle_free(h);
                return r;
        }
        if (flags & O_TRUNC && handle_can_write(h) && f->ops->truncate)
                f->ops->truncate(h);
        *out = h;
        return 0;
}

static void parked_answer(struct parked *p, ssize_t n) {
        struct handle *h = p->handle;

        list_remove(&p->link);
        list_remove(&p->link_in_fs);
        watch_remove(&p->watch);
        h->fs->n_parked--;
        if (n < 0)
                fuse_reply_err(p->req, -n);
        else
                fuse_reply_buf(p->req, read_buffer, n);
        job_reader_unref(p->job);
        free(p);
}

void handle_free(struct handle *h) {
        struct parked *p;

        while ((p = list_first(&h->parked, struct parked, link)))
                parked_answer(p, -EBADF);
        if (h->file->ops->release && !h->refused)
                h->file->ops->release(h);
        if (h->poll)
                fuse_pollhandle_destroy(h->poll);
        watch_remove(&h->watch);
        if (h->draft)
                lease_discard(h->lease, h->draft);
        blob_deinit(&h->blob);
        buf_deinit(&h->text);
        job_reader_unref(h->job);
        lease_unref(h->lease);
        list_remove(&h->link);
        free(h);
}

struct target handle_target(const struct handle *h) {
        return (struct target){ .fs = h->fs, .id = h->id, .lease = h->lease, .job = h->job };
}

/* Bytes of @j were given, up to @position. */
static void advance(struct handle *h, const struct job *j, uint64_t position) {
        struct parked *p;

        if (j == h->job)
                h->position = position;
        if (!h->stream)
                return;
        /* Readers of one description share its bytes. */
        list_for_each (p, &h->parked, link)
                if (p->job == j)
                        p->offset = position;
}

static ssize_t try_read(struct handle *h, struct job *j, uint64_t offset, size_t len) {
        ssize_t n = h->file->ops->read(h, j, offset, read_buffer, len < READ_MAX ? len : READ_MAX);

        if (n > 0)
                advance(h, j, offset + n);
        return n;
}

/* Give a waiting read another chance. */
static void on_parked_changed(struct watch *w) {
        struct parked *p = container_of(w, struct parked, watch);
        ssize_t n = try_read(p->handle, p->job, p->offset, p->len);

        if (n != -EAGAIN)
                parked_answer(p, n);
}

/* libfuse holds the request's lock here: it may be answered, and nothing else may be asked about it. */
static void on_interrupt(fuse_req_t req, void *data) {
        parked_answer(data, -EINTR);
}

static int park(struct handle *h, fuse_req_t req, uint64_t offset, size_t len) {
        struct parked *p;

        /* The interrupt may have overtaken the request. */
        if (fuse_req_interrupted(req))
                return -EINTR;
        p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        p->handle = h;
        p->job = h->job ? job_reader_ref(h->job) : NULL;
        p->req = req;
        p->offset = offset;
        p->len = len;
        p->since_us = h->fs->clock();
        list_init(&p->link);
        list_init(&p->link_in_fs);
        watch_init(&p->watch, on_parked_changed);
        list_add_tail(&h->parked, &p->link);
        list_add_tail(&h->fs->parked, &p->link_in_fs);
        h->fs->n_parked++;
        watch_add(h->file->ops->watches(h), &p->watch);
        fuse_req_interrupt_func(req, on_interrupt, p);
        return 0;
}

void handle_read(struct handle *h, fuse_req_t req, uint64_t offset, size_t len, bool nonblocking) {
        const struct file_ops *ops = h->file->ops;
        ssize_t n = ops->read_arrives ? ops->read_arrives(h) : 0;

        if (n == 0) {
                if (h->stream)
                        offset = h->position;
                else
                        h->position = offset; /* what poll is asked about next, also when there is nothing yet */
                n = ops->read ? try_read(h, h->job, offset, len) : -EINVAL;
        }
        if (n == -EAGAIN && !nonblocking) {
                n = park(h, req, offset, len);
                if (n == 0)
                        return;
        }
        if (n < 0)
                fuse_reply_err(req, -n);
        else
                fuse_reply_buf(req, read_buffer, n);
}

ssize_t handle_write(struct handle *h, const char *data, size_t len) {
        ssize_t n = !h->file->ops->write ? -EBADF : h->refused ? -EINVAL : h->file->ops->write(h, data, len);

        if (n > 0)
                h->written += n;
        return n;
}

void handle_refuse(struct handle *h) {
        h->refused = true;
        blob_clear(&h->blob);
        buf_clear(&h->text);
}

int handle_truncate(struct handle *h, uint64_t size) {
        if (h->refused)
                return -EINVAL;
        if (size == 0 && !h->wrote && h->file->ops->truncate)
                h->file->ops->truncate(h);
        if (size == h->written)
                return 0;
        if (h->lease)
                lease_remark(h->lease, "%s: refused: cut to %" PRIu64 " bytes, where %" PRIu64 " were written",
                             h->file->name, size, h->written);
        if (h->file->ops->truncate)
                h->file->ops->truncate(h);
        handle_refuse(h);
        return -EINVAL;
}

static bool is_ready(const struct handle *h) {
        return !h->file->ops->ready || h->file->ops->ready(h);
}

/* Whoever polls waits for what the handle is about now. */
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

/* The kernel asks again when it was told, and brings a new handle. */
static void on_poll_changed(struct watch *w) {
        struct handle *h = container_of(w, struct handle, watch);

        if (is_ready(h))
                poll_answer(h);
}

unsigned handle_poll(struct handle *h, unsigned wanted, struct fuse_pollhandle *ph) {
        unsigned events = h->file->ops->write ? POLLOUT : 0;

        if (ph && wanted && !(wanted & (POLLIN | POLLRDNORM))) {
                /* Writes never wait: this one needs no word, and another one may wait for it. */
                fuse_pollhandle_destroy(ph);
        } else if (ph) {
                if (h->poll)
                        fuse_pollhandle_destroy(h->poll);
                h->poll = ph;
                watch_for_poll(h);
        }
        return is_ready(h) ? events | POLLIN : events;
}

void handle_bind(struct handle *h, struct job *job) {
        watch_remove(&h->watch); /* nobody may watch a job that is gone */
        if (job)
                job_reader_ref(job);
        job_reader_unref(h->job);
        h->job = job;
        h->position = 0;
        watch_for_poll(h);
        if (h->poll && is_ready(h))
                poll_answer(h);
}

void handles_free_all(struct fs *fs) {
        struct handle *h;

        while ((h = list_first(&fs->handles, struct handle, link))) {
                h->refused = true;
                handle_free(h);
        }
}

int64_t handles_tick(struct fs *fs) {
        struct parked *p;

        if (fs->read_limit_us == USEC_NEVER)
                return USEC_NEVER;
        while ((p = list_first(&fs->parked, struct parked, link_in_fs))) {
                int64_t due = clock_after(p->since_us, fs->read_limit_us);

                if (due > fs->clock())
                        return due;
                parked_answer(p, -EINTR);
        }
        return USEC_NEVER;
}

int64_t handles_oldest(const struct fs *fs) {
        const struct parked *p = list_first(&fs->parked, struct parked, link_in_fs);

        return p ? p->since_us : USEC_NEVER;
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
