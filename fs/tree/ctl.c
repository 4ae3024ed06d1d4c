/* SPDX-License-Identifier: MIT */

/* ctl of a lease and of a job. A read lists the commands. */

#include "fs/tree/lines.h"
#include "pool/lease/ctl.h"

static int run_lease(struct handle *h, const char *line) {
        struct target t = handle_target(h);

        return lease_command(h->lease, target_job(&t), line);
}

static ssize_t ctl_write(struct handle *h, const char *data, size_t len) {
        return lines_write(h, data, len, run_lease);
}

static int ctl_flush(struct handle *h) {
        return lines_flush(h, run_lease);
}

int render_ctl(const struct target *t, struct buf *out) {
        return buf_printf(out, "%s", lease_ctl_usage(target_job(t)));
}

const struct file_ops ctl_ops = {
        .open = lines_open,
        .read = read_rendered,
        .write = ctl_write,
        .flush = ctl_flush,
};
