/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The options of one pool: who may set which, and until when.
 *
 * A row's scope says who may set it (pool/base/option.h). Of a pool beside the mount's own, what is not live can be set
 * until its first environment is made. In the mount's own pool only what is live can be set.
 */

#include "pool/core/mount-pool.h"

/*
 * Whether ctl of this pool knows an option: it can be set there by somebody, at some time.
 */
bool mount_pool_has_option(const struct mount_pool *p, const struct option_row *o);

/*
 * Set an option by ctl. @by_daemon: the daemon's user asks. -EINVAL, with the sentence that the start gives for the value;
 * -EPERM: the caller may not set it, or nobody may; -EBUSY: it cannot change any more; -ENOMEM, -ENOSPC and other errors of
 * the journal's disk. All with @why.
 */
int mount_pool_set(struct mount_pool *p, const char *name, const char *value, bool by_daemon, struct result *why);

/*
 * Set the options of a pool that the configuration file names in @c, a copy of the mount's configuration. -EINVAL or -EPERM
 * with @why.
 */
int pool_options_from_file(struct config *c, const struct config *mount, json_t *options, struct result *why);

/* Whether all pools that the configuration file names can be made; else -errno with @why, for the start. */
int pools_check_file(const struct pools *all, struct result *why);
