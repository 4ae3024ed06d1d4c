/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/files/ops.h"

#include <errno.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "pool/util/cleanup.h"

/* Only in the current directory can they be had without following a link. */
static int enter(const struct file_call_args *a) {
        _cleanup_(cleanup_close) int fd = file_open_parent(a->dir, a->name, false);

        if (fd < 0)
                return fd;
        return fchdir(fd) < 0 ? -errno : 0;
}

static int answer_size(struct file_answer *out, ssize_t n) {
        if (n < 0)
                return errno == ERANGE ? -E2BIG : -errno;
        out->len = n;
        return 0;
}

int file_do_getxattr(const struct file_call_args *a, struct file_answer *out) {
        int r = enter(a);

        return r < 0 ? r : answer_size(out, lgetxattr(a->name, a->name2, out->data, HELPER_DATA_MAX));
}

int file_do_listxattr(const struct file_call_args *a, struct file_answer *out) {
        int r = enter(a);

        return r < 0 ? r : answer_size(out, llistxattr(a->name, (char *)out->data, HELPER_DATA_MAX));
}

int file_do_setxattr(const struct file_call_args *a, struct file_answer *out) {
        int r = enter(a);

        return r == 0 && lsetxattr(a->name, a->name2, a->data, a->len, (int)a->flags) < 0 ? -errno : r;
}

int file_do_removexattr(const struct file_call_args *a, struct file_answer *out) {
        int r = enter(a);

        return r == 0 && lremovexattr(a->name, a->name2) < 0 ? -errno : r;
}
