/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Jobs with a name: mkdir makes one as a draft, rmdir removes it.
 *
 * In between it is submitted as every job is (submit.h), and stays until it is removed: a client that crashed asks for the
 * name again, and learns that the job is there.
 */

#include "pool/lease/lease.h"

/*
 * Make a draft, with the lease's settings as they are. The lease holds it; *out is borrowed. -EINVAL for the name, with
 * lease_error; -EEXIST; -EAGAIN when there are NAMED_MAX; -EOPNOTSUPP when the environment runs one job at a time;
 * -ESTALE after release; -ENOMEM, -ENOSPC or what else the disk says of the journal. Whether one more may wait is
 * lease_accepts() to say.
 */
int lease_make_job(struct lease *l, const char *name, struct job **out);

/* Remove one of them, whatever its state. What runs is killed, and keeps its place among the running until it has ended. */
void lease_remove_job(struct lease *l, struct job *j);

/*
 * For restore.c: one of an earlier run, with the reference. An older one of its name was removed, and that could not be
 * written down. When all are there, those that were removed end.
 */
void lease_restore_named(struct lease *l, struct job *j);
void lease_end_forgotten(struct lease *l);
