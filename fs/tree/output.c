/* SPDX-License-Identifier: MIT */

/*
 * output, stdout, stderr: the output of the job that was newest at open, by
 * offset. A read waits for bytes and returns those that there are. It returns 0
 * at the end of the job, or at once if none was submitted. If the end of
 * the job is not known, an error follows the last byte.
 */

#include <errno.h>

#include "fs/handle.h"

static ssize_t stream_read(struct handle *h, struct job *j, uint64_t offset, char *data, size_t len) {
        if (!job_is_submitted(j))
                return 0;
        if (offset < spool_size(j->spool, h->file->argument))
                return spool_read(j->spool, h->file->argument, offset, data, len);
        if (!job_ended(j))
                return -EAGAIN;
        if (j->code == RESULT_OK)
                return 0;
        return j->code == RESULT_RELEASED ? -ESTALE : -EIO;
}

bool stream_ready(const struct handle *h) {
        return !job_is_submitted(h->job) || job_ended(h->job) ||
               h->position < spool_size(h->job->spool, h->file->argument);
}

struct list *stream_watches(struct handle *h) {
        return h->job ? &h->job->watches : NULL;
}

uint64_t stream_size(const struct target *t) {
        return t->job ? spool_size(t->job->spool, files[t->id].argument) : 0;
}

const struct file_ops stream_ops = {
        .read = stream_read,
        .ready = stream_ready,
        .watches = stream_watches,
};
