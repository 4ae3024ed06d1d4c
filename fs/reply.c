/* SPDX-License-Identifier: MIT */
#include "fs/reply.h"

#include <errno.h>
#include <linux/fuse.h>

#include "pool/util/cleanup.h"

/*
 * How long the kernel may cache answers. The kernel itself takes part whenever
 * a name of a lease or file goes away; jobs and sizes change without it. It may
 * never cache that a name is missing, because names that unlink took away come
 * back without it. So a missing name is answered by the error ENOENT.
 */
#define LASTING_S 60.0
#define FLEETING_S 0.0

#ifndef FOPEN_NOFLUSH /* <linux/fuse.h> before 5.16 */
#define FOPEN_NOFLUSH (1 << 5)
#endif

/* mkdir and rmdir of leases pass through the kernel, which then drops its attributes of the root. */
static bool lasts(const struct target *t) {
        return S_ISDIR(files[t->id].mode) && t->id <= FILE_LEASE;
}

static double attr_timeout(const struct target *t) {
        return lasts(t) ? LASTING_S : FLEETING_S;
}

static struct fuse_entry_param entry_of(const struct target *t) {
        struct fuse_entry_param e = { .ino = target_node(t), .generation = target_generation(t) };

        e.attr_timeout = attr_timeout(t);
        e.entry_timeout = t->id >= FILE_LATEST || t->id == FILE_PORT ? FLEETING_S : LASTING_S;
        target_stat(t, &e.attr);
        return e;
}

static void succeed_entry(struct request *r, fuse_req_t req, int64_t result) {
        struct fuse_entry_param e = entry_of(&container_of(r, struct target_request, request)->target);

        fuse_reply_entry(req, &e);
}

const struct request_kind entry_kind = { .succeed = succeed_entry };

static void succeed_attributes(struct request *r, fuse_req_t req, int64_t result) {
        const struct target *t = &container_of(r, struct target_request, request)->target;
        struct stat st;

        target_stat(t, &st);
        fuse_reply_attr(req, &st, attr_timeout(t));
}

const struct request_kind attributes_kind = { .succeed = succeed_attributes };

static void succeed_data(struct request *r, fuse_req_t req, int64_t len) {
        fuse_reply_buf(req, container_of(r, struct data_request, request)->data, len);
}

const struct request_kind data_kind = { .succeed = succeed_data };

static void succeed_link(struct request *r, fuse_req_t req, int64_t result) {
        fuse_reply_readlink(req, container_of(r, struct data_request, request)->data);
}

const struct request_kind link_kind = { .succeed = succeed_link };

static void succeed_poll(struct request *r, fuse_req_t req, int64_t events) {
        fuse_reply_poll(req, events);
}

const struct request_kind poll_kind = { .succeed = succeed_poll };

static void split_seconds(double seconds, uint64_t *whole, uint32_t *nsec) {
        *whole = (uint64_t)seconds;
        *nsec = (uint32_t)((seconds - (double)*whole) * 1e9);
}

static struct fuse_entry_out pack_entry(const struct fuse_entry_param *e) {
        const struct stat *st = &e->attr;
        struct fuse_entry_out out = {
                .nodeid = e->ino,
                .generation = e->generation,
                .attr = {
                        .ino = st->st_ino,
                        .size = (uint64_t)st->st_size,
                        .blocks = (uint64_t)st->st_blocks,
                        .atime = (uint64_t)st->st_atim.tv_sec,
                        .mtime = (uint64_t)st->st_mtim.tv_sec,
                        .ctime = (uint64_t)st->st_ctim.tv_sec,
                        .atimensec = (uint32_t)st->st_atim.tv_nsec,
                        .mtimensec = (uint32_t)st->st_mtim.tv_nsec,
                        .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
                        .mode = st->st_mode,
                        .nlink = (uint32_t)st->st_nlink,
                        .uid = st->st_uid,
                        .gid = st->st_gid,
                        .blksize = (uint32_t)st->st_blksize,
                },
        };

        split_seconds(e->entry_timeout, &out.entry_valid, &out.entry_valid_nsec);
        split_seconds(e->attr_timeout, &out.attr_valid, &out.attr_valid_nsec);
        return out;
}

/*
 * The answer to an open, or to a create. It is built by hand, because libfuse 3.14 has no field for FOPEN_STREAM. With
 * this flag the kernel keeps no offset and takes no lock for it, so one process can write while another waits in a read
 * of the same open file. A kernel ignores flags that it does not know.
 */
static void succeed_open(struct request *request, fuse_req_t req, int64_t result) {
        struct open_request *o = container_of(request, struct open_request, request);
        struct handle *h = TAKE_PTR(o->handle);
        struct {
                struct fuse_entry_out entry;
                struct fuse_open_out open;
        } out = { .open = { .fh = (uintptr_t)h, .open_flags = FOPEN_DIRECT_IO } };
        struct fuse_entry_param e;
        int r;

        h->opening = NULL;
        if (h->stream)
                out.open.open_flags |= FOPEN_STREAM | FOPEN_NONSEEKABLE;
        if (!h->file->ops->flush)
                out.open.open_flags |= FOPEN_NOFLUSH;
        if (o->created) {
                e = entry_of(o->created);
                out.entry = pack_entry(&e);
                r = fuse_reply_buf(req, (const char *)&out, sizeof(out));
        } else {
                r = fuse_reply_buf(req, (const char *)&out.open, sizeof(out.open));
        }
        if (r == -ENOENT) {
                /* It was interrupted: no RELEASE will come. */
                h->refused = true;
                handle_free(h);
        }
}

const struct request_kind open_kind = {
        .succeed = succeed_open,
        .answered = open_answered,
        .size = sizeof(struct open_request),
};

static void succeed_opendir(struct request *r, fuse_req_t req, int64_t result) {
        fuse_reply_open(req, container_of(r, struct opendir_request, request)->fi);
}

const struct request_kind opendir_kind = { .succeed = succeed_opendir };

static void succeed_statfs(struct request *r, fuse_req_t req, int64_t result) {
        fuse_reply_statfs(req, &container_of(r, struct statfs_request, request)->st);
}

const struct request_kind statfs_kind = { .succeed = succeed_statfs };
