/* SPDX-License-Identifier: MIT */
#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/limits.h"
#include "pool/lease/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

/*
 * How long the kernel may keep what it was told. Names of leases and files only
 * go by ways that the kernel itself takes part in; jobs come and go without it,
 * and so do sizes. That a name is not there it may never keep: names that
 * unlink took away come back without it, so ENOENT is told as an error.
 */
#define LASTING_S 60.0
#define FLEETING_S 0.0

/*
 * The kernel sends RELEASE in the background, by default twelve at a time: the rest wait in it, and an OPEN
 * that comes later overtakes them. Then `echo … > cmd; cat output` would not find its job.
 */
#define RELEASES_AT_ONCE UINT16_MAX

#ifndef FOPEN_NOFLUSH /* <linux/fuse.h> before 5.16 */
#define FOPEN_NOFLUSH (1 << 5)
#endif

static struct fs *fs_of(fuse_req_t req) {
        return fuse_req_userdata(req);
}

static struct handle *handle_of(const struct fuse_file_info *fi) {
        return (struct handle *)(uintptr_t)fi->fh;
}

static void op_init(void *userdata, struct fuse_conn_info *conn) {
        struct fs *fs = userdata;

        fs->greeted = true;
        conn->max_background = RELEASES_AT_ONCE;
        conn->congestion_threshold = RELEASES_AT_ONCE;
        /* Our answers are made in memory: to splice them would cost a pipe each. */
        conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
        /* What is in a directory is said once, by READDIR; LOOKUP tells the rest. */
        conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
}

/* The kernel itself makes and removes leases, and forgets what it knew of the root then. */
static bool lasts(const struct target *t) {
        return S_ISDIR(files[t->id].mode) && t->id <= FILE_LEASE;
}

static double attr_timeout(const struct target *t) {
        return lasts(t) ? LASTING_S : FLEETING_S;
}

static struct fuse_entry_param entry_of(const struct target *t) {
        struct fuse_entry_param e = { .ino = target_node(t), .generation = target_generation(t) };

        e.attr_timeout = attr_timeout(t);
        e.entry_timeout = t->id >= FILE_LATEST ? FLEETING_S : LASTING_S;
        target_stat(t, &e.attr);
        return e;
}

static void reply_entry(fuse_req_t req, const struct target *t) {
        struct fuse_entry_param e = entry_of(t);

        fuse_reply_entry(req, &e);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
        struct target dir, t;
        int r;

        if (strlen(name) > NAME_LEN_MAX) {
                fuse_reply_err(req, ENAMETOOLONG);
                return;
        }
        r = target_find(fs_of(req), parent, &dir);
        if (r == 0)
                r = target_lookup(&dir, name, &t);
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                reply_entry(req, &t);
}

/* An open file is what it was bound to, also when its lease is gone. */
static int target_of(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi, struct target *out) {
        if (!fi)
                return target_find(fs_of(req), ino, out);
        *out = handle_target(handle_of(fi));
        return 0;
}

static void reply_attributes(fuse_req_t req, const struct target *t) {
        struct stat st;

        target_stat(t, &st);
        fuse_reply_attr(req, &st, attr_timeout(t));
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct target t;
        int r = target_of(req, ino, fi, &t);

        if (r < 0)
                fuse_reply_err(req, -r);
        else
                reply_attributes(req, &t);
}

/* truncate(2) by a path is an open for it. */
static int truncate_by_path(const struct target *t, uint64_t size) {
        const struct file_ops *ops = files[t->id].ops;
        struct handle *h;
        int r = ops ? handle_new(&h, t, O_WRONLY) : -EINVAL;

        if (r < 0)
                return r;
        r = handle_truncate(h, size);
        if (r == 0 && ops->sync)
                r = ops->sync(h); /* it can fail, RELEASE cannot */
        handle_free(h);
        return r;
}

/* Modes and times are ours to say. Tools set them behind a copy: to refuse it would call a copy failed that was made. */
static int set_attributes(const struct target *t, struct handle *h, const struct stat *want, int which) {
        struct stat st;

        target_stat(t, &st);
        if ((which & FUSE_SET_ATTR_UID && want->st_uid != st.st_uid) ||
            (which & FUSE_SET_ATTR_GID && want->st_gid != st.st_gid))
                return -EPERM;
        if (which & FUSE_SET_ATTR_SIZE)
                return h ? handle_truncate(h, want->st_size) : truncate_by_path(t, want->st_size);
        return 0;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *want, int which, struct fuse_file_info *fi) {
        struct target t;
        int r = target_of(req, ino, fi, &t);

        if (r == 0)
                r = set_attributes(&t, fi ? handle_of(fi) : NULL, want, which);
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                reply_attributes(req, &t);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino) {
        struct buf text = BUF_INIT(TEXT_FILE_MAX);
        struct target t;
        int r;

        r = target_find(fs_of(req), ino, &t);
        if (r == 0)
                r = t.id == FILE_LATEST ? files[t.id].render(&t, &text) : -EINVAL;
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                fuse_reply_readlink(req, buf_text(&text));
        buf_deinit(&text);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
        const struct fuse_ctx *caller = fuse_req_ctx(req);
        struct fs *fs = fs_of(req);
        struct target t = { .fs = fs, .id = FILE_LEASE };
        int r;

        r = parent == FUSE_ROOT_ID ? lease_create(fs->leases, name, caller->uid, caller->gid, &t.lease) : -EPERM;
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                reply_entry(req, &t);
}

/*
 * Tools that remove a tree remove what is in it first, and in a lease they get to the end: directories stay, and say
 * that they went. Tools that put a file in place of another unlink that one first, again and again as long as the name
 * is there: a file's name goes.
 */
static int find_removable(const struct target *dir, const char *name, bool directory, struct target *out) {
        int r = target_lookup(dir, name, out);

        if (r < 0)
                return r;
        if (S_ISDIR(files[out->id].mode) != directory)
                return directory ? -ENOTDIR : -EISDIR;
        return out->lease ? 0 : -EPERM;
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
        struct target dir, t;
        int r;

        r = target_find(fs_of(req), parent, &dir);
        if (r == 0)
                r = find_removable(&dir, name, false, &t);
        if (r == 0)
                target_hide(&t);
        fuse_reply_err(req, -r);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
        struct target dir, t;
        int r;

        r = target_find(fs_of(req), parent, &dir);
        if (r == 0 && dir.id == FILE_ROOT && target_lookup(&dir, name, &t) == 0 && t.id == FILE_LEASE) {
                lease_release(t.lease);
        } else if (r == 0) {
                r = find_removable(&dir, name, true, &t);
                if (r == 0)
                        target_renew(&t);
        }
        fuse_reply_err(req, -r);
}

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
 * The answer to an open, or to a create, which also names the node. It is in the kernel's own words, since libfuse 3.14
 * has none for FOPEN_STREAM. Where reads do not go by offset, the kernel keeps none, nor the lock on it: so one process
 * writes while another one waits in a read of the same open file. A kernel that does not know a flag passes over it.
 */
static void reply_open(fuse_req_t req, struct handle *h, const struct target *created) {
        struct {
                struct fuse_entry_out entry;
                struct fuse_open_out open;
        } out = { .open = { .fh = (uintptr_t)h, .open_flags = FOPEN_DIRECT_IO } };
        struct fuse_entry_param e;
        int r;

        if (h->stream)
                out.open.open_flags |= FOPEN_STREAM | FOPEN_NONSEEKABLE;
        if (!h->file->ops->flush)
                out.open.open_flags |= FOPEN_NOFLUSH;
        if (created) {
                e = entry_of(created);
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

static int open_target(const struct target *t, int flags, struct handle **out) {
        return files[t->id].ops ? handle_new(out, t, flags) : -EINVAL;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct handle *h;
        struct target t;
        int r;

        r = target_find(fs_of(req), ino, &t);
        if (r == 0)
                r = open_target(&t, fi->flags, &h);
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                reply_open(req, h, NULL);
}

/* The kernel asks for it where a name is not there: because unlink took it away, or because it never was. */
static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi) {
        struct target dir, t;
        struct handle *h;
        int r;

        r = target_find(fs_of(req), parent, &dir);
        if (r == 0)
                r = target_lookup_hidden(&dir, name, &t);
        if (r == 0 && target_hidden(&t))
                fi->flags |= O_TRUNC; /* a new file is empty */
        else if (r == 0 && fi->flags & O_EXCL)
                r = -EEXIST; /* it came back meanwhile */
        if (r == 0)
                r = open_target(&t, fi->flags, &h);
        if (r < 0) {
                fuse_reply_err(req, -r);
                return;
        }
        if (t.lease)
                lease_show(t.lease);
        reply_open(req, h, &t);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        handle_read(handle_of(fi), req, offset, size, fi->flags & O_NONBLOCK);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *fi) {
        ssize_t n = handle_write(handle_of(fi), data, size);

        if (n < 0)
                fuse_reply_err(req, -n);
        else
                fuse_reply_write(req, n);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct handle *h = handle_of(fi);

        fuse_reply_err(req, h->file->ops->flush ? -h->file->ops->flush(h) : 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
        struct handle *h = handle_of(fi);

        fuse_reply_err(req, h->file->ops->sync ? -h->file->ops->sync(h) : 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        handle_free(handle_of(fi));
        fuse_reply_err(req, 0);
}

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph) {
        fuse_reply_poll(req, handle_poll(handle_of(fi), fi->poll_events, ph));
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct target t;
        int r;

        r = target_find(fs_of(req), ino, &t);
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                fuse_reply_open(req, fi);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        /* Positions 1 and 2 are the dots; behind them come target_next()'s, by 2 more. */
        static const char *const dots[] = { ".", ".." };
        static char buffer[64 << 10];
        struct target dir, t;
        uint64_t position;
        const char *name;
        size_t used = 0;
        int r;

        if (size > sizeof(buffer))
                size = sizeof(buffer);
        r = target_find(fs_of(req), ino, &dir);
        if (r < 0) {
                fuse_reply_err(req, -r);
                return;
        }
        for (;;) {
                struct stat st;
                size_t n;

                if (offset < 2) {
                        position = offset + 1;
                        name = dots[offset];
                        st = (struct stat){ .st_ino = ino, .st_mode = S_IFDIR };
                } else {
                        position = offset - 2;
                        if (!target_next(&dir, &position, &name, &t))
                                break;
                        position += 2;
                        st = (struct stat){ .st_ino = target_node(&t), .st_mode = files[t.id].mode };
                }
                n = fuse_add_direntry(req, buffer + used, size - used, name, &st, position);
                if (n > size - used)
                        break;
                used += n;
                offset = position;
        }
        fuse_reply_buf(req, buffer, used);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino) {
        struct fs *fs = fs_of(req);
        struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = NAME_LEN_MAX };
        unsigned leases = leases_count(fs->leases);

        /* An inode is a lease here: full is when mkdir says EAGAIN. Restored leases may be more than max_leases. */
        st.f_files = leases > fs->config->max_leases ? leases : fs->config->max_leases;
        st.f_ffree = st.f_favail = st.f_files - leases;
        fuse_reply_statfs(req, &st);
}

/* What would make a file that is not in the tree. ENOSYS would read "Function not implemented". */

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device) {
        fuse_reply_err(req, EPERM);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
        fuse_reply_err(req, EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags) {
        fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name) {
        fuse_reply_err(req, EPERM);
}

const struct fuse_lowlevel_ops fs_ops = {
        .init = op_init,
        .lookup = op_lookup,
        .getattr = op_getattr,
        .setattr = op_setattr,
        .readlink = op_readlink,
        .mkdir = op_mkdir,
        .unlink = op_unlink,
        .rmdir = op_rmdir,
        .open = op_open,
        .read = op_read,
        .write = op_write,
        .flush = op_flush,
        .fsync = op_fsync,
        .release = op_release,
        .poll = op_poll,
        .opendir = op_opendir,
        .readdir = op_readdir,
        .statfs = op_statfs,
        .create = op_create,
        .mknod = op_mknod,
        .symlink = op_symlink,
        .rename = op_rename,
        .link = op_link,
};
