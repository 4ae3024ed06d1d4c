/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A job of our own, by its files alone: one with a name in a lease. In a pool the lease is made for it.
 *
 *   made       a draft, whose settings may be written
 *   submitted  its streams and its end may be read, and ctl written
 *   removed    the job is gone with its processes, and so is the lease if it was made here
 *
 * The mount answers all calls at once, except the read of a result before the job has ended.
 */

#include <stdbool.h>
#include <stddef.h>

#include "pool/util/buf.h"
#include "pool/util/result.h"

struct job_files {
        char *lease; /* its directory */
        char *job;   /* that of the job, or NULL */
        bool lease_is_ours;
};

/* 0, or -errno with @why filled in; then nothing is left. */
int job_files_make(struct job_files *f, const char *dir, struct result *why);

/* Write all of @data to a file of the job. 0, or -errno with @why filled in. */
int job_files_write(const struct job_files *f, const char *name, const void *data, size_t len, struct result *why);

/* One line for its ctl. It is not told whether that came too late. */
void job_files_control(const struct job_files *f, const char *line);

/* Append what a file has; a result is waited for. 0, or -errno with @why filled in. */
int job_files_read(const struct job_files *f, const char *name, struct buf *out, struct result *why);

/* A descriptor with O_NONBLOCK, or -errno with @why filled in. */
int job_files_open(const struct job_files *f, const char *name, int flags, struct result *why);

/* Whether it runs or is being started; else a signal would not reach it. */
bool job_files_is_running(const struct job_files *f);

/* Fill in @why for an error @r of one of its files: in the words that the mount has for it, if any. */
void job_files_explain(const struct job_files *f, const char *name, int r, struct result *why);

/* Kill what still runs, and remove what was made. */
void job_files_remove(struct job_files *f);
