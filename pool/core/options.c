/* SPDX-License-Identifier: MIT */
#include "pool/core/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core/pools.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

static void deinit_config(struct config *c) {
        config_deinit(c);
}

bool mount_pool_has_option(const struct mount_pool *p, const struct option_row *o) {
        return p->serial ? o->scope != OPTION_OF_MOUNT : o->live;
}

/* Which leases find less of what was there before is stricter. */
static unsigned strictness(unsigned reset) {
        static const unsigned of[] = { [RESET_WORKDIR] = 0, [RESET_CLEAN] = 1, [RESET_ENVIRONMENT] = 2 };

        return of[reset];
}

static int refuse(struct result *why, int r, const char *name, const char *sentence) {
        result_set(why, RESULT_INVALID, "option %s: %s", name, sentence);
        return r;
}

/* Whether the caller may set it in a pool beside the mount's own. */
static int check_scope(const struct option_row *o, bool by_daemon, struct result *why) {
        if (o->scope == OPTION_OF_MOUNT)
                return refuse(why, -EPERM, o->name, "only for the whole mount, when it is mounted");
        if (o->scope == OPTION_OF_DAEMON && !by_daemon)
                return refuse(why, -EPERM, o->name, "only the daemon's user may set it in a pool");
        return 0;
}

static int check_reset(const struct config *c, const struct config *mount, struct result *why) {
        if (strictness(c->reset) >= strictness(mount->reset))
                return 0;
        return refuse(why, -EPERM, "reset", "a pool may be stricter than its mount, not less strict");
}

int pool_options_from_file(struct config *c, const struct config *mount, json_t *options, struct result *why) {
        const char *name;
        json_t *value;
        int r = 0;

        json_object_foreach (options, name, value) {
                const struct option_row *o = config_find_row(c, name);

                r = o ? check_scope(o, true, why) : 0;
                if (r == 0)
                        r = config_set(c, name, json_string_value(value), CONFIG_FILE, why);
                if (r < 0)
                        return r == -ENOENT ? -EINVAL : r;
        }
        r = config_check(c, why);
        return r < 0 ? r : check_reset(c, mount, why);
}

/* The backend judges what it is made of, as at the start. */
static int try_backend(const struct core_parts *parts, const struct config *changed, struct result *why) {
        struct backend *b = NULL;
        int r;

        result_set(why, RESULT_FAILED, "out of memory");
        r = parts->open(parts->owner, changed, "", &b, why);
        backend_free(b);
        return r;
}

static int check_value(const struct mount_pool *p, const struct option_row *o, const char *value, struct result *why) {
        _cleanup_(deinit_config) struct config changed = {};
        int r = config_copy(&changed, p->config);

        memcpy(changed.source, p->config->source, sizeof(changed.source));
        result_set(why, RESULT_FAILED, "out of memory");
        if (r == 0)
                r = config_set(&changed, o->name, value, CONFIG_CTL, why);
        if (r == 0)
                r = config_check(&changed, why);
        if (r == 0 && p->serial)
                r = check_reset(&changed, p->all->parts->config, why);
        return r == 0 && !o->live ? try_backend(p->all->parts, &changed, why) : r;
}

/* In the journal, before it counts. Values of a type that adds up are kept together. */
static int write_option(struct mount_pool *p, const struct option_row *o, const char *value) {
        json_t *before = json_incref(json_object_get(p->options, o->name));
        const char *old = o->type == OPTION_ENV && before ? json_string_value(before) : NULL;
        json_t *now = old ? json_sprintf("%s\n%s", old, value) : json_string(value);
        int r;

        if (!now)
                r = -EINVAL; /* it is not UTF-8 */
        else
                r = json_object_set_new(p->options, o->name, now) < 0 ? -ENOMEM : mount_pool_write(p);
        if (r < 0 && before)
                json_object_set(p->options, o->name, before);
        else if (r < 0)
                json_object_del(p->options, o->name);
        json_decref(before);
        return r;
}

/* The template is made anew with it, when it is wanted next. There is no environment yet. */
static void drop_template(struct mount_pool *p) {
        pool_set_backend(p->pool, NULL);
        template_drop(&p->template);
        pool_retry(p->pool);
}

int mount_pool_set(struct mount_pool *p, const char *name, const char *value, bool by_daemon, struct result *why) {
        const struct option_row *o = config_find_row(p->config, name);
        int r;

        if (!o || (!p->serial && !o->live)) {
                result_set(why, RESULT_INVALID, "unknown; read .pool/ctl for what there is");
                return -EINVAL;
        }
        r = p->serial ? check_scope(o, by_daemon, why) : 0;
        if (r == 0 && p->snapshot && (!strcmp(name, "image") || !strcmp(name, "reset")))
                r = refuse(why, -EPERM, name, "a pool of a snapshot begins as that is, and uses each environment once");
        if (r == 0 && !o->live && p->made)
                r = refuse(why, -EBUSY, name, "it cannot change any more, because an environment was made with it");
        if (r == 0)
                r = check_value(p, o, value, why);
        if (r == 0 && p->serial) {
                r = write_option(p, o, value);
                if (r < 0)
                        result_set(why, RESULT_FAILED, "not written down: %s", strerror(-r));
        }
        if (r < 0)
                return r;
        if (!o->live)
                drop_template(p);
        r = config_set(p->config, name, value, CONFIG_CTL, why);
        if (r < 0)
                return r;
        p->config_wall_us = clock_read_us(CLOCK_REALTIME);
        pool_config_changed(p->pool);
        return 0;
}

static int check_pool(const struct pools *all, const char *name, json_t *options, struct result *why) {
        _cleanup_(deinit_config) struct config c = {};
        int r = lease_check_name(name);

        if (r < 0) {
                result_set(why, RESULT_INVALID, "a pool cannot have this name");
                return r;
        }
        result_set(why, RESULT_FAILED, "out of memory");
        r = config_copy(&c, all->parts->config);
        if (r == 0)
                r = pool_options_from_file(&c, all->parts->config, options, why);
        return r < 0 ? r : try_backend(all->parts, &c, why);
}

int pools_check_file(const struct pools *all, struct result *why) {
        struct result inner;
        const char *name;
        json_t *options;
        int r;

        json_object_foreach (all->parts->config->pools, name, options) {
                r = check_pool(all, name, options, &inner);
                if (r < 0) {
                        result_set(why, inner.code, "pools: %s: %s", name, inner.text);
                        return r;
                }
        }
        return 0;
}
