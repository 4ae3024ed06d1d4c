/* SPDX-License-Identifier: MIT */

/*
 * cmd: what is written to it, from open to the last close, is one command.
 *
 * FLUSH does not mean the end (the exit of a child sends one, too), so the
 * command is submitted at RELEASE, or at fsync. RELEASE cannot fail, so open
 * and write refuse what can be refused. A handle with a refused write submits
 * nothing, because part of a command is another command.
 *
 * Open for reading and writing, a read submits what was written, and gives that
 * job's own output; a further write begins the next command. Open for reading
 * only, it shows the newest command.
 *
 * A command is submitted by READ, FSYNC and RELEASE as they arrive, and
 * by nothing else: not by poll, and not by a read that wakes up.
 *
 * `cmd` of a job with a name is the same, but that it takes one command only.
 *
 * Processes may share an open file. A read is about the command that was
 * submitted last when it arrived. When another process submits the next one, a
 * read that waits stays with its own job: it gets that job's next bytes, or its
 * end. The reads that arrive later are about the next job.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/errno.h"
#include "fs/handle.h"
#include "pool/lease/limits.h"
#include "pool/lease/submit.h"
#include "pool/util/cleanup.h"
#include "pool/util/log.h"

/* Bytes that are accepted here can be submitted, whatever happens in between. */
static int cmd_accept(struct handle *h) {
        enum result_code code = lease_accepts(h->lease);

        return code == RESULT_OK ? lease_draft(h->lease, &h->draft) : -errno_of_result(code);
}

static int cmd_open(struct handle *h) {
        if (!handle_can_write(h))
                return 0;
        h->stream = handle_can_read(h); /* else the offsets of writes would count for reads */
        blob_init(&h->blob, h->fs->spool_dir, COMMAND_SIZE_MAX);
        h->blob.quota = lease_quota(h->lease);
        handle_bind(h, NULL); /* the newest job may be somebody else's */
        return cmd_accept(h);
}

/* All of them or none: part of a command is another command. */
static ssize_t take_bytes(struct handle *h, const char *data, size_t len) {
        int r;

        if (memchr(data, '\0', len)) {
                lease_remark(h->lease, "cmd: refused: a command cannot hold a NUL byte");
                r = -EINVAL;
        } else {
                r = blob_append(&h->blob, data, len);
                if (r == -EFBIG)
                        lease_remark(h->lease, "cmd: refused: more than %u MiB", (unsigned)(COMMAND_SIZE_MAX >> 20));
                if (r == -EDQUOT)
                        lease_remark_quota(h->lease, "cmd");
        }
        if (r < 0) {
                handle_refuse(h);
                return r;
        }
        return len;
}

static ssize_t cmd_write(struct handle *h, const char *data, size_t len) {
        int r = 0;

        if (lease_state(h->lease) == LEASE_RELEASED)
                return -ESTALE;
        if (!h->draft)
                r = cmd_accept(h); /* the next command of a descriptor that is kept open */
        return r < 0 ? r : take_bytes(h, data, len);
}

/* Of a job with a name the draft is the job itself, so it is submitted once. */
static int cmd_submit(struct handle *h) {
        struct job *j = h->draft ?: h->job;
        int r;

        if (h->refused || h->blob.size == 0)
                return 0;
        if (!job_is_submitted(j))
                j->client = h->client;
        r = lease_submit(h->lease, j, &h->blob);
        if (r < 0 || !h->draft)
                return r;
        handle_bind(h, h->draft);
        job_unref(TAKE_PTR(h->draft));
        return 0;
}

static ssize_t command_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        return job ? blob_read(&job->command, offset, data, len) : 0;
}

static ssize_t cmd_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        return (handle_can_write(h) ? stream_ops.read : command_read)(h, job, offset, data, len);
}

static bool cmd_ready(const struct handle *h) {
        return !handle_can_write(h) || stream_ready(h);
}

/* Unlike RELEASE, fsync can report that the command was refused when it was submitted. */
static int cmd_sync(struct handle *h) {
        bool submits = h->blob.size > 0;
        int r = cmd_submit(h);

        if (r == 0 && submits && h->job && job_ended(h->job))
                r = -errno_of_result(h->job->code);
        return r;
}

static void cmd_release(struct handle *h) {
        int r = cmd_submit(h);

        if (r < 0)
                log_warning("lease=%s: command not run: %s", lease_name(h->lease), strerror(-r));
}

uint64_t command_size(const struct target *t) {
        return t->job ? t->job->command.size : 0;
}

const struct file_ops cmd_ops = {
        .open = cmd_open,
        .read_arrives = cmd_submit,
        .read = cmd_read,
        .ready = cmd_ready,
        .write = cmd_write,
        .sync = cmd_sync,
        .release = cmd_release,
        .watches = stream_watches,
};

/* of a job with a name */

static int draft_open(struct handle *h) {
        if (!handle_can_write(h))
                return 0;
        if (job_is_submitted(h->job))
                return -EBUSY;
        if (lease_code(h->lease) != RESULT_OK)
                return -errno_of_result(lease_code(h->lease));
        h->stream = handle_can_read(h);
        blob_init(&h->blob, h->fs->spool_dir, COMMAND_SIZE_MAX);
        h->blob.quota = lease_quota(h->lease);
        return 0;
}

static ssize_t draft_write(struct handle *h, const char *data, size_t len) {
        if (lease_state(h->lease) == LEASE_RELEASED)
                return -ESTALE;
        return job_is_submitted(h->job) ? -EBUSY : take_bytes(h, data, len);
}

const struct file_ops draft_ops = {
        .open = draft_open,
        .read_arrives = cmd_submit,
        .read = cmd_read,
        .ready = cmd_ready,
        .write = draft_write,
        .sync = cmd_sync,
        .release = cmd_release,
        .watches = stream_watches,
};

const struct file_ops command_ops = {
        .read = command_read,
};
