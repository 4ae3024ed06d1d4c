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
 * Set an option in @c, which is a copy of the mount's, for a pool that the configuration file names. -EINVAL or -EPERM with
 * @why.
 */
int pool_option_from_file(struct config *c, const char *name, const char *value, struct result *why);
