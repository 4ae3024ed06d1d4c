/* SPDX-License-Identifier: MIT */

/* .pool/ctl. A read lists the commands. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/tree/lines.h"
#include "pool/core/options.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

static int take_no_argument(const char *argument, struct result *why) {
        if (!*argument)
                return 0;
        result_set(why, RESULT_INVALID, "expected nothing behind it");
        return -EINVAL;
}

static int run_prewarm(struct mount_pool *p, const char *argument, struct result *why) {
        uint64_t n;

        if (text_to_u64(argument, &n) < 0 || n > p->config->max) {
                result_set(why, RESULT_INVALID, "expected a whole number from 0 to max, which is %" PRIu64,
                           p->config->max);
                return -EINVAL;
        }
        pool_prewarm(p->pool, n);
        return 0;
}

static int run_drain(struct mount_pool *p, const char *argument, struct result *why) {
        int r = take_no_argument(argument, why);

        if (r == 0)
                leases_drain(p->leases, true);
        return r;
}

static int run_resume(struct mount_pool *p, const char *argument, struct result *why) {
        int r = take_no_argument(argument, why);

        if (r == 0) {
                leases_drain(p->leases, false);
                pool_retry(p->pool);
        }
        return r;
}

static int run_recycle(struct mount_pool *p, const char *argument, struct result *why) {
        int r = take_no_argument(argument, why);

        if (r == 0)
                pool_recycle(p->pool);
        return r;
}

static const struct {
        const char *name;
        int (*run)(struct mount_pool *p, const char *argument, struct result *why);
        const char *usage;
} verbs[] = {
        { "prewarm", run_prewarm, "prewarm N" },
        { "drain", run_drain, "drain" },
        { "resume", run_resume, "resume" },
        { "recycle", run_recycle, "recycle" },
};

#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static int run_word(struct handle *h, const char *word, const char *argument, struct result *why) {
        for (size_t i = 0; i < N_VERBS; i++)
                if (!strcmp(verbs[i].name, word))
                        return verbs[i].run(h->pool, argument, why);
        return mount_pool_set(h->pool, word, argument, h->uid == h->fs->uid, why);
}

/* What is logged of a line: not the value of a secret option. */
static void show_line(const struct mount_pool *p, const char *word, const char *line, struct result *out) {
        const struct option_row *o = config_find_row(p->config, word);

        if (o && o->secret)
                result_set(out, RESULT_OK, "%s ***", word);
        else
                result_set(out, RESULT_OK, "%s", line);
}

static int run_pool(struct handle *h, const char *line) {
        size_t len = strcspn(line, " ");
        const char *argument = line + len + strspn(line + len, " ");
        struct result why, refusal, shown;
        struct mount_pool *p = h->pool;
        char word[32];
        int r;

        if (!p->open)
                return -ESTALE;
        snprintf(word, sizeof(word), "%.*s", (int)len, line);
        show_line(p, word, line, &shown);
        r = run_word(h, word, argument, &why);
        if (r == 0) {
                log_info("%s%s%sctl: %s", *p->name ? "pool=" : "", p->name, *p->name ? ": " : "", shown.text);
                event_emit(p->ring, "ctl", shown.text, "done", NULL, NULL);
                return 0;
        }
        result_set(&refusal, why.code, "\"%s\": %s", shown.text, why.text);
        log_warning("%s%s%sctl: %s", *p->name ? "pool=" : "", p->name, *p->name ? ": " : "", refusal.text);
        event_emit(p->ring, "ctl", shown.text, "refused", NULL, refusal.text);
        return r;
}

static ssize_t pool_ctl_write(struct handle *h, const char *data, size_t len) {
        return lines_write(h, data, len, run_pool);
}

static int pool_ctl_flush(struct handle *h) {
        return lines_flush(h, run_pool);
}

int render_pool_ctl(const struct target *t, struct buf *out) {
        const struct option_row *o;
        char takes[OPTION_TAKES_SIZE];
        int r = 0;

        for (size_t i = 0; i < N_VERBS && r == 0; i++)
                r = buf_printf(out, "%s\n", verbs[i].usage);
        for (size_t i = 0; r == 0 && (o = config_row(t->pool->config, i)); i++)
                if (mount_pool_has_option(t->pool, o))
                        r = buf_printf(out, "%s %s\n", o->name, option_takes(o, takes));
        return r;
}

const struct file_ops pool_ctl_ops = {
        .open = lines_open,
        .read = read_rendered,
        .write = pool_ctl_write,
        .flush = pool_ctl_flush,
};
