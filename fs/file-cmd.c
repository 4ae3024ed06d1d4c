/* SPDX-License-Identifier: MIT */

/*
 * cmd: what is written to it, from open to the last close, is one command.
 *
 * FLUSH says nothing about that (a child's exit sends one in the middle), so
 * the command is submitted at RELEASE, or at fsync. RELEASE cannot fail: what
 * can be refused is refused at open or at write, and a handle with a refused
 * write submits nothing, since part of a command is another command.
 *
 * Open for reading and writing, the first read submits, and reads give that
 * job's own output to its end; a further write begins the next command.
 * Open for reading only, it shows the newest command.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/errno.h"
#include "fs/handle.h"
#include "pool/limits.h"
#include "pool/util/log.h"

static int cmd_open(struct handle *h) {
        if (!handle_can_write(h))
                return 0;
        h->stream = handle_can_read(h); /* else the offsets of writes would count for reads */
        blob_init(&h->blob, h->fs->spool_dir, COMMAND_SIZE_MAX);
        return -errno_of_result(lease_accepts(h->lease));
}

static void bind_job(struct handle *h, struct job *j) {
        watch_remove(&h->watch);
        if (h->job)
                spool_close(h->job->spool);
        job_unref(h->job);
        h->job = j;
        if (j)
                spool_open(j->spool);
}

static ssize_t cmd_write(struct handle *h, const char *data, size_t len) {
        enum result_code code;
        int r = 0;

        if (h->refused)
                return -EINVAL;
        if (lease_state(h->lease) == LEASE_RELEASED)
                return -ESTALE;
        if (h->blob.size == 0 && h->wrote) {
                /* The next command of a descriptor that is kept open. */
                code = lease_accepts(h->lease);
                if (code != RESULT_OK)
                        return -errno_of_result(code);
        }
        if (memchr(data, '\0', len)) {
                lease_remark(h->lease, "cmd: refused: a command cannot hold a NUL byte");
                r = -EINVAL;
        } else {
                r = blob_append(&h->blob, data, len);
                if (r == -EFBIG)
                        lease_remark(h->lease, "cmd: refused: more than %u MiB", (unsigned)(COMMAND_SIZE_MAX >> 20));
        }
        if (r < 0) {
                blob_clear(&h->blob);
                h->refused = true;
                return r;
        }
        h->wrote = true;
        return len;
}

static int cmd_submit(struct handle *h) {
        struct job *j;
        int r;

        if (h->refused || h->blob.size == 0)
                return 0;
        r = lease_submit(h->lease, &h->blob, &j);
        if (r < 0)
                return r;
        bind_job(h, j);
        h->position = 0;
        return 0;
}

static ssize_t cmd_read(struct handle *h, uint64_t offset, char *data, size_t len) {
        int r;

        if (!handle_can_write(h))
                return h->job ? blob_read(&h->job->command, offset, data, len) : 0;
        r = cmd_submit(h);
        if (r < 0)
                return r;
        if (!h->wrote)
                return 0; /* the newest job may be somebody else's */
        return stream_ops.read(h, h->position, data, len);
}

static int cmd_sync(struct handle *h) {
        return cmd_submit(h);
}

static void cmd_release(struct handle *h) {
        int r = cmd_submit(h);

        if (r < 0)
                log_warning("lease=%s: command lost: %s", lease_name(h->lease), strerror(-r));
}

/* A file offset means nothing here, and neither does its being cut. */
static int cmd_truncate(const struct target *t) {
        return 0;
}

uint64_t command_size(const struct target *t) {
        return t->job ? t->job->command.size : 0;
}

const struct file_ops cmd_ops = {
        .open = cmd_open,
        .read = cmd_read,
        .write = cmd_write,
        .sync = cmd_sync,
        .release = cmd_release,
        .truncate = cmd_truncate,
        .watches = stream_watches,
};

const struct file_ops command_ops = {
        .read = cmd_read,
};
