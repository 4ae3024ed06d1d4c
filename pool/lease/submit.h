/* SPDX-License-Identifier: MIT */
#pragma once

/* A command on its way to a job: from the open file that it is written to, into its lease's queue. */

#include "pool/lease/lease.h"

/*
 * Whether a command may be opened now: RESULT_BUSY when the queue is full, or the
 * drafts that there are need the last of JOB_NUMBER_MAX numbers; the lease's code
 * when it has no environment to hope for. A command that was opened in time is
 * taken even when the queue filled up since.
 */
enum result_code lease_accepts(const struct lease *l);

/*
 * All that the submission of a command cannot do without: memory, and the promise
 * of a number. *out is a reference. Either lease_submit() takes it, or it is
 * discarded, reference and all. -ESTALE after release, -ENOMEM.
 */
int lease_draft(struct lease *l, struct job **out);
void lease_discard(struct lease *l, struct job *draft);

/*
 * Submit @draft, of cmd or with a name: run @command after all that were submitted
 * before, with the settings and the input that were set until now. One of cmd is
 * the newest job then. The bytes of @command are taken; the caller's reference stays his. On a lost or failed lease,
 * and when the job cannot be stored or written down, it ends at once with the
 * reason, without having run. 0, or -ESTALE after release: then it still is a draft.
 * -EBUSY: one with a name was submitted before, or removed.
 */
int lease_submit(struct lease *l, struct job *draft, struct blob *command);

/* Where the lease's jobs keep their bytes. */
struct job_store lease_job_store(const struct lease *l);
