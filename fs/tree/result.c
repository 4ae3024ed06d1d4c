/* SPDX-License-Identifier: MIT */

/*
 * exit_code and environment: one line, for which a read waits. If it can never
 * be known, the read fails, and `error` says why.
 */

#include <errno.h>

#include "fs/errno.h"
#include "fs/handle.h"
#include "fs/limits.h"

int render_exit_code(const struct target *t, struct buf *out) {
        const struct job *j = t->job;

        if (!job_is_submitted(j))
                return 0; /* none was submitted: nothing to wait for */
        if (!job_ended(j))
                return lease_state(t->lease) == LEASE_RELEASED ? -ESTALE : -EAGAIN;
        if (j->code == RESULT_RELEASED)
                return -ESTALE;
        return j->code == RESULT_OK ? buf_printf(out, "%d\n", j->exit_code) : -EIO;
}

int render_environment(const struct target *t, struct buf *out) {
        const char *id = lease_environment(t->lease);

        if (id)
                return buf_printf(out, "%s\n", id);
        return lease_state(t->lease) == LEASE_WAITING ? -EAGAIN : -errno_of_result(lease_code(t->lease));
}

static ssize_t wait_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        struct target t = handle_target(h);
        int r;

        if (h->text.len == 0) {
                r = h->file->render(&t, &h->text);
                if (r < 0)
                        return r;
        }
        return read_text(&h->text, offset, data, len);
}

static bool wait_ready(const struct handle *h) {
        struct target t = handle_target(h);
        struct buf text = BUF_INIT(TEXT_FILE_MAX);
        bool ready = h->text.len > 0 || h->file->render(&t, &text) != -EAGAIN;

        buf_deinit(&text);
        return ready;
}

static struct list *wait_watches(struct handle *h) {
        return h->id == FILE_ENVIRONMENT ? lease_watches(h->lease) : stream_watches(h);
}

const struct file_ops wait_ops = {
        .read = wait_read,
        .ready = wait_ready,
        .watches = wait_watches,
};
