/* SPDX-License-Identifier: MIT */
#pragma once

/* What is set in a lease before a command: cwd, timeout, env and standard input. A submission takes it as it is then. */

#include "pool/lease/lease.h"
#include "pool/util/buf.h"

enum lease_setting {
        SETTING_CWD,
        SETTING_TIMEOUT,
        SETTING_ENV,
        SETTING_N,
};

/* Check or store a setting, the text as the user wrote it. -EINVAL with lease_error, -ENOMEM. */
int lease_check_setting(struct lease *l, enum lease_setting setting, const char *text);
int lease_set(struct lease *l, enum lease_setting setting, const char *text);

/* The text of a setting, with its newline, into @out. */
int lease_get(const struct lease *l, enum lease_setting setting, struct buf *out);

/* Standard input for the next job: what there is of it, add bytes (as blob_append(), with lease_error), start over. -ESTALE. */
const struct blob *lease_input(const struct lease *l);
int lease_add_input(struct lease *l, const void *data, size_t len);
void lease_clear_input(struct lease *l);

/* Wall time of the last change of a setting, and of the input. */
int64_t lease_set_wall_us(const struct lease *l, enum lease_setting setting);
int64_t lease_input_wall_us(const struct lease *l);
