/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/remote/file.h"
#include "fs/remote/remote.h"
#include "fs/remote/request.h"

#define READ_MAX (1 << 20) /* bytes of one READ: what libfuse negotiates at most */

struct chunk {
        struct list link; /* in the file's, in the order of asking */
        struct remote_file *file;
        struct file_call call;
        uint64_t offset;
        int64_t asked_us;
        bool have, old; /* old: from before a write */
        int error;
        size_t len; /* less than CHUNK_SIZE: the file ends there */
        uint8_t data[];
};

struct read {
        struct request request;
        struct remote_file *file;
        uint64_t offset;
        size_t size;
        int64_t arrived_us;
};

static char read_buffer[READ_MAX]; /* of the one read that is being answered */

/* chunks */

static void chunk_drop(struct chunk *c) {
        sandbox_file_cancel(&c->call);
        list_remove(&c->link);
        c->file->n_chunks--;
        free(c);
}

void remote_file_drop_chunks(struct remote_file *f) {
        struct chunk *c;

        while ((c = list_first(&f->chunks, struct chunk, link)))
                chunk_drop(c);
}

void remote_file_make_chunks_old(struct remote_file *f) {
        struct chunk *c, *tmp;

        list_for_each_safe (c, tmp, &f->chunks, link)
                if (c->have)
                        chunk_drop(c);
                else
                        c->old = true;
}

static struct chunk *chunk_find(const struct remote_file *f, uint64_t offset) {
        struct chunk *c;

        list_for_each (c, &f->chunks, link)
                if (c->offset == offset)
                        return c;
        return NULL;
}

static struct chunk *chunk_new(struct remote_file *f, uint64_t offset, int64_t asked_us) {
        struct chunk *c = malloc(sizeof(*c) + CHUNK_SIZE);

        if (!c)
                return NULL;
        *c = (struct chunk){ .file = f, .offset = offset, .asked_us = asked_us };
        list_add_tail(&f->chunks, &c->link);
        f->n_chunks++;
        return c;
}

static void answer_reads(struct remote_file *f);

static void on_chunk(struct file_call *call, int error, const void *data, size_t len) {
        struct chunk *c = container_of(call, struct chunk, call);
        struct remote_file *f = c->file;

        if (c->old) {
                chunk_drop(c); /* who needs it asks again */
        } else {
                c->have = true;
                c->error = len > CHUNK_SIZE ? -EIO : -error;
                c->len = c->error ? 0 : len;
                if (c->len > 0)
                        memcpy(c->data, data, len);
        }
        answer_reads(f);
}

/* -EAGAIN: it was asked for. */
static int chunk_ask(struct remote_file *f, uint64_t offset) {
        struct remote_tree *t = f->node->tree;
        struct file_call_args args = { .op = FILE_OP_READ, .handle = f->handle, .offset = offset, .size = CHUNK_SIZE };
        struct chunk *c = chunk_new(f, offset, remote_now(t));
        int r;

        if (!c)
                return -ENOMEM;
        c->call.done = on_chunk;
        r = lease_file_call(t->lease, &args, &c->call);
        if (r < 0) {
                chunk_drop(c);
                return remote_tree_error(t, r == -EAGAIN ? -EIO : r);
        }
        return -EAGAIN;
}

void remote_file_put_contents(struct remote_file *f, const uint8_t *data, size_t len, int64_t asked_us) {
        struct chunk *c = len < CHUNK_SIZE ? chunk_new(f, 0, asked_us) : NULL;

        if (!c)
                return;
        memcpy(c->data, data, len);
        c->len = len;
        c->have = true;
}

/* reads */

static bool is_too_old(const struct chunk *c, const struct read *r) {
        return c->have && c->asked_us < r->arrived_us - FRESH_US;
}

/* 0: it is there; -EAGAIN: it will be; or what is wrong with it. */
static int chunk_get(struct read *r, uint64_t offset, struct chunk **out) {
        struct chunk *c = chunk_find(r->file, offset);
        int error;

        if (c && is_too_old(c, r)) {
                chunk_drop(c);
                c = NULL;
        }
        *out = c;
        if (!c)
                return chunk_ask(r->file, offset);
        if (!c->have)
                return -EAGAIN;
        error = c->error;
        if (error)
                chunk_drop(c);
        return error;
}

static uint64_t chunk_at(uint64_t offset) {
        return offset - offset % CHUNK_SIZE;
}

static bool is_last(const struct chunk *c) {
        return c->len < CHUNK_SIZE;
}

/* All that it needs is asked for. */
static int read_gather(struct read *r) {
        int result = 0;

        for (uint64_t at = chunk_at(r->offset); at < r->offset + r->size; at += CHUNK_SIZE) {
                struct chunk *c;
                int error = chunk_get(r, at, &c);

                if (error < 0 && error != -EAGAIN)
                        return error;
                if (error < 0)
                        result = error;
                else if (is_last(c))
                        break;
        }
        return result;
}

static size_t least(size_t a, size_t b) {
        return a < b ? a : b;
}

/* What was given to its end is dropped. */
static size_t read_copy(struct read *r) {
        uint64_t end = r->offset + r->size, at = r->offset;
        size_t n = 0;

        while (at < end) {
                struct chunk *c = chunk_find(r->file, chunk_at(at));
                size_t from = at - c->offset, len = from < c->len ? least(c->len - from, end - at) : 0;
                bool last = is_last(c);

                memcpy(read_buffer + n, c->data + from, len);
                n += len;
                at += len;
                if (from + len == CHUNK_SIZE)
                        chunk_drop(c);
                if (last)
                        break;
        }
        return n;
}

static int64_t read_try(struct read *r) {
        int error = r->file->dead ? r->file->dead : read_gather(r);

        return error < 0 ? error : (int64_t)read_copy(r);
}

/* Answering one may end others, and asks for no more than these need. */
static void answer_reads(struct remote_file *f) {
        struct list pending = LIST_INIT(pending);
        struct request *request;

        list_move_all(&pending, &f->reads);
        while ((request = list_first(&pending, struct request, link))) {
                int64_t n;

                list_remove(&request->link);
                list_add_tail(&f->reads, &request->link);
                n = read_try(container_of(request, struct read, request));
                if (n != -EAGAIN)
                        request_answer(request, n);
        }
}

static void read_succeed(struct request *r, fuse_req_t req, int64_t n) {
        fuse_reply_buf(req, read_buffer, n);
}

static const struct request_kind read_kind = { .succeed = read_succeed, .size = sizeof(struct read) };

/* A reader that jumps has no use of what was read ahead for it. */
static void forget_ahead(struct remote_file *f, const struct read *r) {
        struct chunk *c, *tmp;

        if (!list_empty(&f->reads))
                return;
        list_for_each_safe (c, tmp, &f->chunks, link)
                if (c->have && (c->offset + CHUNK_SIZE <= r->offset || c->offset >= r->offset + r->size))
                        chunk_drop(c);
}

static void read_ahead(struct remote_file *f, const struct read *r) {
        uint64_t end = r->offset + r->size, size = f->node->attributes.size;

        if (r->offset != f->next_offset) {
                f->ahead = 0;
                forget_ahead(f, r);
        } else {
                f->ahead = f->ahead == 0 ? AHEAD_FIRST : least(2 * f->ahead, AHEAD_MAX);
        }
        f->next_offset = end;
        for (uint64_t at = chunk_at(end); at < end + f->ahead && at < size && f->n_chunks < CHUNKS_MAX; at += CHUNK_SIZE)
                if (!chunk_find(f, at) && chunk_ask(f, at) != -EAGAIN)
                        return;
}

void remote_read(fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi) {
        struct remote_file *f = (struct remote_file *)(uintptr_t)fi->fh;
        struct remote_tree *t = f->node->tree;
        struct read r = {
                .request = REQUEST_INIT(&read_kind, req),
                .file = f,
                .offset = (uint64_t)offset,
                .size = least(size, READ_MAX),
                .arrived_us = remote_now(t),
        };
        struct request *waiting;
        int64_t n = read_try(&r);

        if (!f->dead)
                read_ahead(f, &r);
        if (n == -EAGAIN) {
                n = request_wait(&r.request, &waiting, &t->fs->requests, &f->reads, r.arrived_us, remote_deadline(t));
                if (n == 0)
                        return;
        }
        request_answer(&r.request, n);
}
