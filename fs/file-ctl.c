/* SPDX-License-Identifier: MIT */

/*
 * ctl, of a lease and of the pool: a line a command, done at write, so that
 * the writer hears of a bad one. Reading it lists the commands.
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/handle.h"
#include "pool/limits.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

static int ctl_open(struct handle *h) {
        h->text.max = SETTING_SIZE_MAX;
        return 0;
}

/* Run the whole lines of what was written, and with @rest what stands behind the last newline too. */
static int run_lines(struct handle *h, bool rest, int (*run)(struct handle *h, const char *line)) {
        char *line = h->text.data, *newline;
        int r = 0;

        if (!line)
                return 0;
        while (r == 0 && (newline = strchr(line, '\n'))) {
                *newline = '\0';
                if (*line)
                        r = run(h, line);
                line = newline + 1;
        }
        if (r == 0 && rest && *line) {
                r = run(h, line);
                line += strlen(line);
        }
        if (r < 0) {
                buf_clear(&h->text);
        } else {
                h->text.len -= line - h->text.data;
                memmove(h->text.data, line, h->text.len + 1);
        }
        return r;
}

static ssize_t write_lines(struct handle *h, const char *data, size_t len,
                           int (*run)(struct handle *h, const char *line)) {
        int r;

        if (memchr(data, '\0', len))
                return -EINVAL;
        r = buf_append(&h->text, data, len);
        if (r == 0)
                r = run_lines(h, false, run);
        return r < 0 ? r : (ssize_t)len;
}

static int ctl_truncate(const struct target *t) {
        return 0;
}

/* of a lease */

static int run_lease(struct handle *h, const char *line) {
        return lease_command(h->lease, line);
}

static ssize_t ctl_write(struct handle *h, const char *data, size_t len) {
        return write_lines(h, data, len, run_lease);
}

static int ctl_flush(struct handle *h) {
        return run_lines(h, true, run_lease);
}

int render_ctl(const struct target *t, struct buf *out) {
        return buf_printf(out, "kill\nsignal NAME\ncancel\nrenew\n");
}

const struct file_ops ctl_ops = {
        .open = ctl_open,
        .read = read_rendered,
        .write = ctl_write,
        .flush = ctl_flush,
        .truncate = ctl_truncate,
};

/* of the pool */

static int pool_prewarm_verb(struct fs *fs, const char *argument) {
        uint64_t n;

        if (text_to_u64(argument, &n) < 0 || n > fs->config->max)
                return -EINVAL;
        pool_prewarm(fs->pool, n);
        return 0;
}

static int set_verb(struct fs *fs, const char *name, const char *argument) {
        struct result why;

        if (config_set(fs->config, name, argument, CONFIG_CTL, &why) < 0)
                return -EINVAL;
        return 0;
}

static int pool_max_verb(struct fs *fs, const char *argument) {
        uint64_t n;

        if (text_to_u64(argument, &n) < 0 || n < fs->config->min)
                return -EINVAL;
        return set_verb(fs, "max", argument);
}

static int pool_min_verb(struct fs *fs, const char *argument) {
        uint64_t n;

        if (text_to_u64(argument, &n) < 0 || n > fs->config->max)
                return -EINVAL;
        return set_verb(fs, "min", argument);
}

static int pool_drain_verb(struct fs *fs, const char *argument) {
        if (*argument)
                return -EINVAL;
        leases_drain(fs->leases, true);
        return 0;
}

static int pool_resume_verb(struct fs *fs, const char *argument) {
        if (*argument)
                return -EINVAL;
        leases_drain(fs->leases, false);
        return 0;
}

static int pool_recycle_verb(struct fs *fs, const char *argument) {
        if (*argument)
                return -EINVAL;
        pool_recycle(fs->pool);
        return 0;
}

static const struct {
        const char *name;
        int (*run)(struct fs *fs, const char *argument);
        const char *usage;
} pool_verbs[] = {
        { "prewarm", pool_prewarm_verb, "prewarm N, at most max" },
        { "max", pool_max_verb, "max N, at least min" },
        { "min", pool_min_verb, "min N, at most max" },
        { "drain", pool_drain_verb, "drain" },
        { "resume", pool_resume_verb, "resume" },
        { "recycle", pool_recycle_verb, "recycle" },
};

#define N_POOL_VERBS (sizeof(pool_verbs) / sizeof(pool_verbs[0]))

static int run_pool(struct handle *h, const char *line) {
        size_t len = strcspn(line, " ");
        const char *argument = line + len + strspn(line + len, " ");
        struct result why;

        result_set(&why, RESULT_INVALID, "\"%s\": unknown; read .pool/ctl for what there is", line);
        for (size_t i = 0; i < N_POOL_VERBS; i++) {
                if (strlen(pool_verbs[i].name) != len || strncmp(pool_verbs[i].name, line, len))
                        continue;
                if (pool_verbs[i].run(h->fs, argument) == 0) {
                        log_info("ctl: %s", line);
                        event_emit(h->fs->events, "ctl", line, "done", NULL, NULL);
                        return 0;
                }
                result_set(&why, RESULT_INVALID, "\"%s\": expected %s", line, pool_verbs[i].usage);
        }
        log_warning("ctl: %s", why.text);
        event_emit(h->fs->events, "ctl", line, "refused", NULL, why.text);
        return -EINVAL;
}

static ssize_t pool_ctl_write(struct handle *h, const char *data, size_t len) {
        return write_lines(h, data, len, run_pool);
}

static int pool_ctl_flush(struct handle *h) {
        return run_lines(h, true, run_pool);
}

int render_pool_ctl(const struct target *t, struct buf *out) {
        int r = 0;

        for (size_t i = 0; i < N_POOL_VERBS && r == 0; i++)
                r = buf_printf(out, "%s\n", pool_verbs[i].usage);
        return r;
}

const struct file_ops pool_ctl_ops = {
        .open = ctl_open,
        .read = read_rendered,
        .write = pool_ctl_write,
        .flush = pool_ctl_flush,
        .truncate = ctl_truncate,
};
