/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The files of a lease's environment: NAME/root/ and all below it.
 *
 * Who owns what:
 *
 *   fs        trees       one for each lease whose root/ was used; tree.h
 *   tree      nodes       a node is a name in a directory; the kernel counts how often it was told of it; node.h
 *   node      open files  file.h; reads, and what is written behind, are theirs
 *   kernel    requests    request.h; each is answered once, and most are one call to the helper
 *
 * Data goes down by calls: a request makes a call of its arguments, lease_file_call() takes it to the helper, which does
 * all calls of a lease in their order. It comes up by done() of that call: what the helper says is checked, goes into the
 * nodes, and answers the request. A request waits for the environment first, without a limit of time; then for the
 * answer, for option file_timeout. It ends earlier when it is interrupted, when the lease or the environment is gone, or
 * when the mount is.
 *
 *   tree      USED → OVER                the lease is released, or the mount is gone: then only what the kernel and open
 *                                        files hold on to is left, and all calls give ESTALE
 *   node      NAMED → DETACHED           removed, replaced inside by another file, or of an environment that is gone:
 *                                        only open files of it still work
 *   request   WAITING → ASKED → answered
 *
 * A node is known by its directory and its name there, never by a number that comes from inside: so no answer of the
 * helper can show one directory in two places. If a name stands for another file than before, it gets another node.
 *
 * The kernel may believe attributes for FRESH_US, and it asks for each name each time, which is answered from the nodes
 * for as long. What a job has changed is seen at once when it has ended: the tree is told before anybody who waits for
 * the job, and takes back the attributes that the kernel still believes. It could not take back names: to do that, the
 * kernel would wait for a directory that is locked by who waits for us.
 * Data are checked at each open: pages of a file stay only if its size and both of its times are as they were. Small
 * files that are opened ahead (ready.h) are as true as attributes are.
 *
 * All that comes from inside is taken for hostile. Its form is checked by pool/helper/file-call.c, names by
 * remote_is_name(), links by link.h. Nothing from inside is opened, followed or run here.
 */

#include <stdbool.h>

#include "fs/fs.h"
#include "pool/util/clock.h"

#define FRESH_US (1 * USEC_PER_SEC)

struct remote_node;

/* The node of a number that the kernel gave, or NULL: it is none of these. Of root/ itself also the first time. */
struct remote_node *remote_find(struct fs *fs, fuse_ino_t ino);

/* The same, but for root/ itself, whose attributes the tree's table has. */
struct remote_node *remote_below(fuse_ino_t ino);

/* Each answers @req, now or later. @n is the file, or the directory with @name. */
void remote_lookup(fuse_req_t req, struct remote_node *n, const char *name);
void remote_forget(struct remote_node *n, uint64_t lookups);
void remote_getattr(fuse_req_t req, struct remote_node *n);
void remote_setattr(fuse_req_t req, struct remote_node *n, const struct stat *want, int which);
void remote_readlink(fuse_req_t req, struct remote_node *n);
void remote_mkdir(fuse_req_t req, struct remote_node *n, const char *name, mode_t mode);
void remote_mknod(fuse_req_t req, struct remote_node *n, const char *name, mode_t mode);
void remote_symlink(fuse_req_t req, const char *target, struct remote_node *n, const char *name);
void remote_link(fuse_req_t req, struct remote_node *file, struct remote_node *n, const char *name);
void remote_unlink(fuse_req_t req, struct remote_node *n, const char *name);
void remote_rmdir(fuse_req_t req, struct remote_node *n, const char *name);
void remote_rename(fuse_req_t req, struct remote_node *n, const char *name, struct remote_node *to, const char *new_name,
                   unsigned flags);
void remote_statfs(fuse_req_t req, struct remote_node *n);
void remote_getxattr(fuse_req_t req, struct remote_node *n, const char *name, size_t size);
void remote_listxattr(fuse_req_t req, struct remote_node *n, size_t size);
void remote_setxattr(fuse_req_t req, struct remote_node *n, const char *name, const char *value, size_t size, int flags);
void remote_removexattr(fuse_req_t req, struct remote_node *n, const char *name);

void remote_open(fuse_req_t req, struct remote_node *n, const struct fuse_file_info *fi);
void remote_create(fuse_req_t req, struct remote_node *n, const char *name, mode_t mode, const struct fuse_file_info *fi);
void remote_read(fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi);
void remote_write(fuse_req_t req, const char *data, size_t size, off_t offset, const struct fuse_file_info *fi);
void remote_flush(fuse_req_t req, const struct fuse_file_info *fi);
void remote_fsync(fuse_req_t req, int datasync, const struct fuse_file_info *fi);
void remote_release(fuse_req_t req, const struct fuse_file_info *fi);
void remote_lseek(fuse_req_t req, off_t offset, int whence, const struct fuse_file_info *fi);
void remote_fallocate(fuse_req_t req, int mode, off_t offset, off_t length, const struct fuse_file_info *fi);
void remote_copy(fuse_req_t req, off_t offset, const struct fuse_file_info *fi, off_t to_offset,
                 const struct fuse_file_info *to, size_t size);

void remote_opendir(fuse_req_t req, struct remote_node *n, const struct fuse_file_info *fi);
void remote_readdir(fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi, bool plus);
void remote_releasedir(fuse_req_t req, const struct fuse_file_info *fi);
void remote_fsyncdir(fuse_req_t req, struct remote_node *n, int datasync);

/* The mount is gone. */
void remote_free_all(struct fs *fs);
