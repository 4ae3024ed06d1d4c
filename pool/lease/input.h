/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Live input of a job with a name: opened and ended through its ctl, written to its stdin, read by its sandbox.
 *
 * Bytes are acknowledged to the writer once they are on disk (live-input.h). The exec reads them from there, and says
 * what the sandbox has; then there is room for more, and the job's watches are fired.
 */

#include "pool/lease/lease.h"

/*
 * Of a draft; a second call does nothing. -EBUSY: it was submitted. With lease_error: -EOPNOTSUPP: the environment has no
 * helper, -EFBIG: more was written to stdin than is kept, -EDQUOT, -ENOSPC or what else the disk says.
 */
int lease_open_input(struct lease *l, struct job *j);

/* There will be no more. A second call does nothing. -EINVAL: it is not live. -ENOSPC or what else the disk says. */
int lease_end_input(struct lease *l, struct job *j);

/* As live_input_write(); -EPIPE after release. Only of a job with live input, as is the next. */
ssize_t lease_write_input(struct lease *l, struct job *j, const void *data, size_t len);
bool lease_input_is_writable(const struct job *j);

/* For run.c: what its exec asks and says of it, and what that is told once it is made. */
bool job_read_input(void *owner, uint64_t offset, void *data, size_t len);
void job_input_taken(void *owner, uint64_t offset, bool closed);
void job_offer_input(const struct job *j);
