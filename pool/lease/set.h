/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The settings of a lease, or of one of its jobs with a name, are read and set.
 *
 * @j is that job, or NULL for the settings of the lease itself. Those of a job that was submitted cannot be set: -EBUSY.
 * After release nothing can: -ESTALE.
 */

#include "pool/lease/lease.h"
#include "pool/util/buf.h"

/* Check or store a setting, the text as the user wrote it. -EINVAL with lease_error, -ENOMEM. */
int lease_check_setting(struct lease *l, struct job *j, enum lease_setting setting, const char *text);
int lease_set(struct lease *l, struct job *j, enum lease_setting setting, const char *text);

/* The text of a setting, with its newline, into @out. */
int lease_get(const struct lease *l, const struct job *j, enum lease_setting setting, struct buf *out);

/* Standard input for the job: what there is of it, add bytes (as blob_append(), with lease_error), start over. -ESTALE. */
const struct blob *lease_input(const struct lease *l, const struct job *j);
int lease_add_input(struct lease *l, struct job *j, const void *data, size_t len);
int lease_clear_input(struct lease *l, struct job *j);

/* Wall time of the last change of a setting, and of the input. */
int64_t lease_set_wall_us(const struct lease *l, const struct job *j, enum lease_setting setting);
int64_t lease_input_wall_us(const struct lease *l, const struct job *j);
