/* SPDX-License-Identifier: MIT */

/*
 * The yardstick for mkdir: the smallest file system that has one. A directory
 * exists from its mkdir to its rmdir in the kernel's memory alone.
 *
 *   bench-empty MOUNTPOINT     until it is unmounted, or SIGTERM
 */

#define FUSE_USE_VERSION 35

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <sys/stat.h>

static fuse_ino_t newest = FUSE_ROOT_ID;

static void directory(fuse_ino_t ino, struct stat *st) {
        *st = (struct stat){ .st_ino = ino, .st_mode = S_IFDIR | 0700, .st_nlink = 2 };
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
        fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct stat st;

        directory(ino, &st);
        fuse_reply_attr(req, &st, 60);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
        struct fuse_entry_param e = { .ino = ++newest, .attr_timeout = 60, .entry_timeout = 60 };

        directory(e.ino, &e.attr);
        fuse_reply_entry(req, &e);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
        fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops ops = {
        .lookup = op_lookup,
        .getattr = op_getattr,
        .mkdir = op_mkdir,
        .rmdir = op_rmdir,
};

int main(int argc, char **argv) {
        struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
        struct fuse_session *s;
        int r;

        if (argc != 2) {
                fprintf(stderr, "usage: bench-empty MOUNTPOINT\n");
                return 2;
        }
        if (fuse_opt_add_arg(&args, "bench-empty") < 0 ||
            fuse_opt_add_arg(&args, "-ofsname=bench-empty,default_permissions") < 0)
                return 1;
        s = fuse_session_new(&args, &ops, sizeof(ops), NULL);
        if (!s || fuse_set_signal_handlers(s) < 0 || fuse_session_mount(s, argv[1]) < 0)
                return 1;
        r = fuse_session_loop(s);
        fuse_session_unmount(s);
        fuse_session_destroy(s);
        fuse_opt_free_args(&args);
        return r < 0;
}
