/* SPDX-License-Identifier: MIT */
#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/errno.h"
#include "fs/limits.h"
#include "fs/remote/remote.h"
#include "fs/reply.h"
#include "pool/lease/limits.h"
#include "pool/lease/named.h"
#include "pool/lease/submit.h"

/*
 * The kernel sends RELEASE in the background, by default twelve at a time. The others wait in the kernel, and a later
 * OPEN overtakes them. Then `echo … > cmd; cat output` would not find its job.
 */
#define RELEASES_AT_ONCE UINT16_MAX

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
        /* Answers are made in memory; splicing them would need a pipe for each. */
        conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
        /* Below root/ names come with their attributes, always: a listing costs a round trip, and not one for each name. */
        conn->want &= ~(unsigned)FUSE_CAP_READDIRPLUS_AUTO;
        conn->want |= conn->capable & FUSE_CAP_READDIRPLUS;
        /* The kernel takes away the bits of setuid and the like when a file is written. */
        conn->want &= ~(unsigned)FUSE_CAP_HANDLE_KILLPRIV;
}

static void answer_status(fuse_req_t req, int r) {
        struct request request = REQUEST_INIT(&request_status, req);

        request_answer(&request, r);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
        struct remote_node *n = remote_find(fs_of(req), parent);
        struct target_request a = { .request = REQUEST_INIT(&entry_kind, req) };
        struct target dir;
        int r = strlen(name) > NAME_LEN_MAX ? -ENAMETOOLONG : 0;

        if (n) {
                remote_lookup(req, n, name);
                return;
        }
        if (r == 0)
                r = target_find(fs_of(req), parent, &dir);
        if (r == 0)
                r = target_lookup(&dir, name, &a.target);
        request_answer(&a.request, r);
}

/* An open file still shows what it was bound to when its lease is gone. */
static int target_of(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi, struct target *out) {
        if (!fi)
                return target_find(fs_of(req), ino, out);
        *out = handle_target(handle_of(fi));
        return 0;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct remote_node *n = remote_below(ino);
        struct target_request a = { .request = REQUEST_INIT(&attributes_kind, req) };

        if (n) {
                remote_getattr(req, n);
                return;
        }
        request_answer(&a.request, target_of(req, ino, fi, &a.target));
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
                r = ops->sync(h); /* this can fail, RELEASE cannot */
        handle_free(h);
        return r;
}

/*
 * Modes and times do not change. But tools set them after a copy, and would report an error for a copy that was made.
 */
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
        struct remote_node *n = remote_below(ino);
        struct target_request a = { .request = REQUEST_INIT(&attributes_kind, req) };
        int r;

        if (n) { /* whose open files are none of ours */
                remote_setattr(req, n, want, which);
                return;
        }
        r = target_of(req, ino, fi, &a.target);
        if (r == 0)
                r = set_attributes(&a.target, fi ? handle_of(fi) : NULL, want, which);
        request_answer(&a.request, r);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino) {
        struct remote_node *n = remote_below(ino);
        struct data_request link = { .request = REQUEST_INIT(&link_kind, req) };
        struct buf text = BUF_INIT(TEXT_FILE_MAX);
        struct target t;
        int r;

        if (n) {
                remote_readlink(req, n);
                return;
        }
        r = target_find(fs_of(req), ino, &t);
        if (r == 0)
                r = S_ISLNK(files[t.id].mode) ? files[t.id].render(&t, &text) : -EINVAL;
        link.data = buf_text(&text);
        request_answer(&link.request, r);
        buf_deinit(&text);
}

/* Who asks again is told that the job is there, also when no more may wait. */
static int make_job(struct target *t, const char *name) {
        enum result_code code = lease_accepts(t->lease);

        if (!lease_named_job(t->lease, name) && code != RESULT_OK)
                return -errno_of_result(code);
        t->id = FILE_NAMED;
        return lease_make_job(t->lease, name, &t->job);
}

static int make_pool(struct target *t, const char *name, const struct fuse_ctx *caller) {
        t->id = FILE_NAMED_POOL;
        return strlen(name) > NAME_LEN_MAX ? -ENAMETOOLONG
                                           : pools_make(t->fs->pools, name + 1, caller->uid, caller->gid, &t->pool);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
        struct remote_node *n = remote_find(fs_of(req), parent);
        const struct fuse_ctx *caller = fuse_req_ctx(req);
        struct target_request a = { .request = REQUEST_INIT(&entry_kind, req) };
        int r = target_find(fs_of(req), parent, &a.target);

        if (n) {
                remote_mkdir(req, n, name, mode);
                return;
        }
        if (r == 0 && a.target.id == FILE_ROOT && name[0] == '@') {
                r = make_pool(&a.target, name, caller);
        } else if (r == 0 && (a.target.id == FILE_ROOT || a.target.id == FILE_NAMED_POOL)) {
                a.target.id = FILE_LEASE;
                r = lease_create(a.target.pool->leases, name, caller->uid, caller->gid, &a.target.lease);
        } else if (r == 0) {
                r = a.target.id == FILE_JOBS ? make_job(&a.target, name) : -EPERM;
        }
        request_answer(&a.request, r);
}

/*
 * Tools that remove a tree remove its contents first. In a lease, and in .pool of a pool that somebody made, that
 * succeeds: rmdir of a directory reports success,
 * and the directory stays. Tools that replace a file unlink it first, and repeat that as long as the name is there. So
 * unlink takes the name away.
 */
static int find_removable(const struct target *dir, const char *name, bool directory, struct target *out) {
        int r = target_lookup(dir, name, out);

        if (r < 0)
                return r;
        if (S_ISDIR(files[out->id].mode) != directory)
                return directory ? -ENOTDIR : -EISDIR;
        return target_removable(out) ? 0 : -EPERM;
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
        struct remote_node *n = remote_find(fs_of(req), parent);
        struct target dir, t;
        int r;

        if (n) {
                remote_unlink(req, n, name);
                return;
        }
        r = target_find(fs_of(req), parent, &dir);
        if (r == 0)
                r = find_removable(&dir, name, false, &t);
        if (r == 0)
                target_hide(&t);
        answer_status(req, r);
}

static int remove_directory(const struct target *t) {
        switch (t->id) {
        case FILE_LEASE:
                lease_release(t->lease);
                return 0;
        case FILE_NAMED_POOL:
                return pools_remove(t->pool);
        case FILE_NAMED:
                lease_remove_job(t->lease, t->job);
                return 0;
        case FILE_TREE:
                return -EBUSY;
        default:
                target_renew(t);
                return 0;
        }
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
        struct remote_node *n = remote_find(fs_of(req), parent);
        struct target dir, t;
        int r;

        if (n) {
                remote_rmdir(req, n, name);
                return;
        }
        r = target_find(fs_of(req), parent, &dir);
        if (r == 0)
                r = find_removable(&dir, name, true, &t);
        if (r == 0)
                r = remove_directory(&t);
        answer_status(req, r);
}

static int open_target(fuse_req_t req, const struct target *t, int flags, struct handle **out) {
        int r = files[t->id].ops ? handle_new(out, t, flags) : -EINVAL;

        if (r < 0)
                return r;
        (*out)->uid = fuse_req_ctx(req)->uid;
        if (fs_of(req)->audits && (files[t->id].ops == &cmd_ops || files[t->id].ops == &draft_ops))
                open_note_client(*out, fuse_req_ctx(req));
        return 0;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct remote_node *n = remote_below(ino);
        struct open_request o = { .request = REQUEST_INIT(&open_kind, req) };
        struct target t;
        int r;

        if (n) {
                remote_open(req, n, fi);
                return;
        }
        r = target_find(fs_of(req), ino, &t);
        if (r == 0)
                r = open_target(req, &t, fi->flags, &o.handle);
        if (r == 0)
                open_answer(&o);
        else
                request_answer(&o.request, r);
}

/* The kernel sends this for a name that is not there: unlink took it away, or there never was one. */
static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi) {
        struct remote_node *n = remote_find(fs_of(req), parent);
        struct target dir, t;
        struct open_request o = { .request = REQUEST_INIT(&open_kind, req), .created = &t };
        int r;

        if (n) {
                remote_create(req, n, name, mode, fi);
                return;
        }
        r = target_find(fs_of(req), parent, &dir);
        if (r == 0)
                r = target_lookup_hidden(&dir, name, &t);
        if (r == 0 && target_hidden(&t))
                fi->flags |= O_TRUNC; /* a new file is empty */
        else if (r == 0 && fi->flags & O_EXCL)
                r = -EEXIST; /* it came back meanwhile */
        if (r == 0)
                r = open_target(req, &t, fi->flags, &o.handle);
        if (r == 0)
                target_show(&t);
        request_answer(&o.request, r);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        struct remote_node *n = remote_below(ino);

        if (n) {
                remote_read(req, size, offset, fi);
                return;
        }
        handle_read(handle_of(fi), req, offset, size, fi->flags & O_NONBLOCK);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *fi) {
        struct remote_node *n = remote_below(ino);

        if (n) {
                remote_write(req, data, size, offset, fi);
                return;
        }
        handle_write(handle_of(fi), req, data, size, fi->flags & O_NONBLOCK);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct remote_node *n = remote_below(ino);
        struct handle *h = handle_of(fi);

        if (n) {
                remote_flush(req, fi);
                return;
        }
        answer_status(req, h->file->ops->flush ? h->file->ops->flush(h) : 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
        struct remote_node *n = remote_below(ino);
        struct handle *h = handle_of(fi);

        if (n) {
                remote_fsync(req, datasync, fi);
                return;
        }
        answer_status(req, h->file->ops->sync ? h->file->ops->sync(h) : 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct remote_node *n = remote_below(ino);

        if (n) {
                remote_release(req, fi);
                return;
        }
        handle_free(handle_of(fi));
        answer_status(req, 0);
}

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph) {
        struct request request = REQUEST_INIT(&poll_kind, req);

        request_answer(&request, handle_poll(handle_of(fi), fi->poll_events, ph));
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct remote_node *n = remote_find(fs_of(req), ino);
        struct opendir_request o = { .request = REQUEST_INIT(&opendir_kind, req), .fi = fi };
        struct target t;

        if (n) {
                remote_opendir(req, n, fi);
                return;
        }
        request_answer(&o.request, target_find(fs_of(req), ino, &t));
}

/* Without a node: the attributes of these come by LOOKUP. */
static size_t add_name(fuse_req_t req, char *at, size_t room, const char *name, const struct stat *st, uint64_t next,
                       bool plus) {
        struct fuse_entry_param entry = { .attr = *st };

        if (plus)
                return fuse_add_direntry_plus(req, at, room, name, &entry, (off_t)next);
        return fuse_add_direntry(req, at, room, name, st, (off_t)next);
}

/* Fill @buffer with entries of @dir from @offset on. Returns the number of bytes. */
static size_t fill_directory(fuse_req_t req, const struct target *dir, off_t offset, char *buffer, size_t size, bool plus) {
        /* Positions 1 and 2 are the dots. Those of target_next() follow, increased by 2. */
        static const char *const dots[] = { ".", ".." };
        uint64_t position;
        const char *name;
        struct target t;
        size_t used = 0;

        for (;;) {
                struct stat st;
                size_t n;

                if (offset < 2) {
                        position = offset + 1;
                        name = dots[offset];
                        st = (struct stat){ .st_ino = target_node(dir), .st_mode = S_IFDIR };
                } else {
                        position = offset - 2;
                        if (!target_next(dir, &position, &name, &t))
                                return used;
                        position += 2;
                        st = (struct stat){ .st_ino = target_node(&t), .st_mode = files[t.id].mode };
                }
                n = add_name(req, buffer + used, size - used, name, &st, position, plus);
                if (n > size - used)
                        return used;
                used += n;
                offset = position;
        }
}

static void read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, const struct fuse_file_info *fi,
                           bool plus) {
        static char buffer[64 << 10];
        struct data_request entries = { .request = REQUEST_INIT(&data_kind, req), .data = buffer };
        struct target dir;
        int r;

        if (fi->fh) {
                remote_readdir(req, size, offset, fi, plus);
                return;
        }
        r = target_find(fs_of(req), ino, &dir);
        if (size > sizeof(buffer))
                size = sizeof(buffer);
        request_answer(&entries.request, r < 0 ? r : (int64_t)fill_directory(req, &dir, offset, buffer, size, plus));
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        read_directory(req, ino, size, offset, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        read_directory(req, ino, size, offset, fi, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        if (fi->fh)
                remote_releasedir(req, fi);
        else
                answer_status(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
        struct remote_node *n = remote_find(fs_of(req), ino);

        if (n)
                remote_fsyncdir(req, n, datasync);
        else
                answer_status(req, 0);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino) {
        struct remote_node *n = remote_find(fs_of(req), ino);
        struct fs *fs = fs_of(req);
        struct statfs_request s = {
                .request = REQUEST_INIT(&statfs_kind, req),
                .st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = NAME_LEN_MAX },
        };
        unsigned leases = lease_registry_count(&fs->pools->registry);

        if (n) {
                remote_statfs(req, n);
                return;
        }
        /* Inodes are leases: none is free when mkdir fails with EAGAIN. Restored leases may exceed max_leases. */
        s.st.f_files = leases > fs->config->max_leases ? leases : fs->config->max_leases;
        s.st.f_ffree = s.st.f_favail = s.st.f_files - leases;
        request_answer(&s.request, 0);
}

/* These would make files that are not in the tree. ENOSYS would show as "Function not implemented". */

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device) {
        struct remote_node *n = remote_find(fs_of(req), parent);

        if (n) {
                remote_mknod(req, n, name, mode);
                return;
        }
        answer_status(req, -EPERM);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
        struct remote_node *n = remote_find(fs_of(req), parent);

        if (n) {
                remote_symlink(req, target, n, name);
                return;
        }
        answer_status(req, -EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags) {
        struct remote_node *n = remote_find(fs_of(req), parent), *to = remote_find(fs_of(req), new_parent);

        if (n && to)
                remote_rename(req, n, name, to, new_name, flags);
        else
                answer_status(req, n || to ? -EXDEV : -EPERM); /* mv copies then */
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name) {
        struct remote_node *file = remote_below(ino), *n = remote_find(fs_of(req), parent);

        if (file && n)
                remote_link(req, file, n, name);
        else
                answer_status(req, file || n ? -EXDEV : -EPERM);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups) {
        struct remote_node *n = remote_below(ino);

        if (n)
                remote_forget(n, lookups);
        fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
        for (size_t i = 0; i < count; i++) {
                struct remote_node *n = remote_below(forgets[i].ino);

                if (n)
                        remote_forget(n, forgets[i].nlookup);
        }
        fuse_reply_none(req);
}

/* The error ENOSYS, once given, would be for the whole mount. */

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
        struct remote_node *n = remote_below(ino);

        if (n)
                remote_getxattr(req, n, name, size);
        else
                answer_status(req, -ENODATA);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
        struct remote_node *n = remote_below(ino);

        if (n)
                remote_listxattr(req, n, size);
        else if (size == 0)
                fuse_reply_xattr(req, 0);
        else
                fuse_reply_buf(req, NULL, 0);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags) {
        struct remote_node *n = remote_below(ino);

        if (n)
                remote_setxattr(req, n, name, value, size, flags);
        else
                answer_status(req, -EOPNOTSUPP);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name) {
        struct remote_node *n = remote_below(ino);

        if (n)
                remote_removexattr(req, n, name);
        else
                answer_status(req, -EOPNOTSUPP);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi) {
        if (remote_below(ino))
                remote_lseek(req, offset, whence, fi);
        else
                answer_status(req, -EINVAL);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi) {
        if (remote_below(ino))
                remote_fallocate(req, mode, offset, length, fi);
        else
                answer_status(req, -EOPNOTSUPP);
}

/* With EXDEV the kernel reads and writes instead. */
static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino, off_t offset, struct fuse_file_info *fi, fuse_ino_t to,
                               off_t to_offset, struct fuse_file_info *to_fi, size_t size, int flags) {
        if (remote_below(ino) && remote_below(to))
                remote_copy(req, offset, fi, to_offset, to_fi, size);
        else
                answer_status(req, -EXDEV);
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
        .readdirplus = op_readdirplus,
        .releasedir = op_releasedir,
        .fsyncdir = op_fsyncdir,
        .statfs = op_statfs,
        .create = op_create,
        .mknod = op_mknod,
        .symlink = op_symlink,
        .rename = op_rename,
        .link = op_link,
        .forget = op_forget,
        .forget_multi = op_forget_multi,
        .getxattr = op_getxattr,
        .listxattr = op_listxattr,
        .setxattr = op_setxattr,
        .removexattr = op_removexattr,
        .lseek = op_lseek,
        .fallocate = op_fallocate,
        .copy_file_range = op_copy_file_range,
};
