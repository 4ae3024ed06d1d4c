/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The audit file: a JSON line for each job that ends, in the order of their ends.
 *
 * A line has what `result` has, and who submitted the job, the command, and the environment. It is written before the
 * end is noted in the journal, so a job whose end a crash cut off may have two lines, but no job has none.
 *
 * A line that cannot be written, because the disk is full for example, is dropped and counted; the next one that can
 * be says how many were. Jobs go on.
 *
 * The core borrows it; the daemon owns it. Calls write to a file of this machine and wait for that.
 */

#include "pool/lease/job.h"

struct audit;

/* Where a job ran. */
struct audit_place {
        const char *pool, *lease; /* "": the mount's own pool */
        const char *environment;  /* or NULL */
        uid_t uid;                /* the lease's owner, who stands for a client that is not known */
        gid_t gid;
};

/*
 * Append to the file at the absolute @path, which is made with mode 0600. -errno with @why: it cannot be opened, its last
 * part is a symbolic link, or it is no regular file.
 */
int audit_open(struct audit **out, const char *path, struct result *why);
void audit_close(struct audit *a);

/* The file was renamed: go on with a new one. If that cannot be opened, go on with the old one, and log why. */
void audit_reopen(struct audit *a);

/* @j has ended. */
void audit_job(struct audit *a, const struct job *j, const struct audit_place *place);
