/* SPDX-License-Identifier: MIT */

/*
 * cwd, timeout, env: what is written from open to the last close replaces the
 * whole setting; an empty value restores the default. Complete lines are checked
 * at write, so that write can report errors. A last line without a newline is
 * checked at close.
 *
 * stdin: bytes for the next job, added up until one is submitted.
 *
 * A job with a name has all of them for itself. Its stdin may be live: then bytes go on to the job as they come, and a
 * write waits for room. Close does not end it, for others may write to it; `eof` in ctl does.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/handle.h"
#include "fs/limits.h"
#include "pool/lease/input.h"
#include "pool/lease/set.h"
#include "pool/util/log.h"

/* The job whose settings these are, or NULL for those of the lease. */
static struct job *job_of(const struct handle *h) {
        struct target t = handle_target(h);

        return target_job(&t);
}

/* Those of a job can be set until it is submitted. */
static int check_writable(const struct handle *h) {
        const struct job *j = job_of(h);

        return handle_can_write(h) && job_is_submitted(j) ? -EBUSY : 0;
}

static int setting_open(struct handle *h) {
        h->text.max = SETTING_SIZE_MAX;
        return check_writable(h);
}

/* The value: without the final newline. */
static void chomp(struct buf *text) {
        while (text->len > 0 && text->data[text->len - 1] == '\n')
                text->data[--text->len] = '\0';
}

static int setting_refuse(struct handle *h, int r) {
        handle_refuse(h);
        return r;
}

static ssize_t setting_write(struct handle *h, const char *data, size_t len) {
        struct buf so_far = BUF_INIT(SETTING_SIZE_MAX);
        int r;

        if (memchr(data, '\0', len)) {
                lease_remark(h->lease, "%s: refused: a NUL byte", h->file->name);
                return setting_refuse(h, -EINVAL);
        }
        r = buf_append(&h->text, data, len);
        if (r < 0)
                return setting_refuse(h, r);
        h->wrote = true;

        if (h->file->argument == SETTING_ENV) {
                const char *end = memrchr(h->text.data, '\n', h->text.len);

                r = buf_append(&so_far, h->text.data, end ? end - h->text.data : 0);
        } else {
                r = buf_append(&so_far, h->text.data, h->text.len);
        }
        if (r == 0) {
                chomp(&so_far);
                r = lease_check_setting(h->lease, job_of(h), h->file->argument, buf_text(&so_far));
        }
        buf_deinit(&so_far);
        return r < 0 ? setting_refuse(h, r) : (ssize_t)len;
}

/* Pass the value that was written to @take. */
static int setting_give(struct handle *h, int (*take)(struct lease *l, struct job *j, enum lease_setting setting,
                                                      const char *text)) {
        struct buf text = BUF_INIT(SETTING_SIZE_MAX);
        int r;

        if (!h->wrote || h->refused)
                return 0;
        r = buf_append(&text, h->text.data, h->text.len);
        chomp(&text);
        if (r == 0)
                r = take(h->lease, job_of(h), h->file->argument, buf_text(&text));
        buf_deinit(&text);
        return r;
}

static int setting_flush(struct handle *h) {
        return setting_give(h, lease_check_setting);
}

static int setting_sync(struct handle *h) {
        int r = setting_give(h, lease_set);

        /* A value that was set is not set again at close, because another process may have set a new one. */
        if (r == 0)
                h->wrote = false;
        return r;
}

static void setting_release(struct handle *h) {
        (void)setting_sync(h); /* a failure stands in the lease's `error` */
}

/* Closed like that, it is the default again. */
static int setting_truncate(struct handle *h) {
        int r = check_writable(h);

        h->wrote = h->wrote || r == 0;
        return r;
}

int render_setting(const struct target *t, struct buf *out) {
        return lease_get(t->lease, target_job(t), files[t->id].argument, out);
}

const struct file_ops setting_ops = {
        .open = setting_open,
        .read = read_rendered,
        .write = setting_write,
        .flush = setting_flush,
        .sync = setting_sync,
        .release = setting_release,
        .truncate = setting_truncate,
};

/* stdin */

static struct job *live_job_of(const struct handle *h) {
        struct job *j = job_of(h);

        return j && j->live_input ? j : NULL;
}

static int stdin_open(struct handle *h) {
        if (live_job_of(h))
                return 0;
        h->written = lease_input(h->lease, job_of(h))->size; /* what is written comes behind that */
        return check_writable(h);
}

/* A stream has nothing to cut. A shell says O_TRUNC whenever it opens it. */
static int stdin_truncate(struct handle *h) {
        int r = live_job_of(h) ? 0 : lease_clear_input(h->lease, job_of(h));

        if (r == 0)
                h->written = 0;
        return r;
}

static ssize_t stdin_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        return live_job_of(h) ? 0 : blob_read(lease_input(h->lease, job_of(h)), offset, data, len);
}

static ssize_t stdin_write(struct handle *h, const char *data, size_t len) {
        struct job *live = live_job_of(h);
        ssize_t n = live ? lease_write_input(h->lease, live, data, len) : lease_add_input(h->lease, job_of(h), data, len);

        if (n < 0)
                return n;
        h->wrote = true;
        return live ? n : (ssize_t)len;
}

static bool stdin_writable(const struct handle *h) {
        const struct job *live = live_job_of(h);

        return !live || lease_input_is_writable(live);
}

static struct list *stdin_watches(struct handle *h) {
        struct job *live = live_job_of(h);

        return live ? &live->watches : NULL;
}

uint64_t stdin_size(const struct target *t) {
        const struct job *j = target_job(t);

        return j && j->live_input ? j->live_input->size : lease_input(t->lease, j)->size;
}

const struct file_ops stdin_ops = {
        .open = stdin_open,
        .read = stdin_read,
        .write = stdin_write,
        .writable = stdin_writable,
        .watches = stdin_watches,
        .truncate = stdin_truncate,
};
