/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The tree: every file there is, as one static table.
 *
 * A row says where a file stands, its mode, and how it behaves; behaviours are
 * one file each in fs/tree/ (cmd.c, output.c …). Leases and jobs are the two rows
 * without a name: their names come from the books.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "pool/util/buf.h"

struct handle;

enum file_id {
        FILE_NONE,
        FILE_ROOT, /* 1, as FUSE_ROOT_ID is */

        FILE_POOL,
        FILE_POOL_STATUS,
        FILE_POOL_STATS,
        FILE_POOL_METRICS,
        FILE_POOL_CONFIG,
        FILE_POOL_EVENTS,
        FILE_POOL_CTL,

        FILE_LEASE,
        FILE_CMD,
        FILE_OUTPUT,
        FILE_STDOUT,
        FILE_STDERR,
        FILE_EXIT_CODE,
        FILE_STATUS,
        FILE_ERROR,
        FILE_ENVIRONMENT,
        FILE_STDIN,
        FILE_CWD,
        FILE_TIMEOUT,
        FILE_ENV,
        FILE_CTL,
        FILE_JOBS,
        FILE_LATEST,

        FILE_JOB,
        FILE_JOB_CMD,
        FILE_JOB_OUTPUT,
        FILE_JOB_STDOUT,
        FILE_JOB_STDERR,
        FILE_JOB_EXIT_CODE,
        FILE_JOB_STATUS,
        FILE_JOB_ERROR,

        FILE_N,
};

/* A file, found: the row, and what it belongs to. Pointers are borrowed for the turn. */
struct target {
        struct fs *fs;
        enum file_id id;
        struct lease *lease; /* of files in a lease */
        struct job *job;     /* of files in a job; elsewhere the newest job or NULL */
};

/*
 * How a file behaves when open. All return at once; a read that has nothing
 * yet returns -EAGAIN, and is asked again after the list that it watches fired.
 * -errno is what the user gets.
 */
struct file_ops {
        /* Refuse, or set the handle up. */
        int (*open)(struct handle *h);
        int (*read_arrives)(struct handle *h); /* before a READ is tried for the first time; NULL: nothing to do */
        /* @job is the handle's when the READ arrived. Called again when a READ that waits wakes up. */
        ssize_t (*read)(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len);
        /* Whether a READ would be answered at once; NULL: always. Asking has no effect. */
        bool (*ready)(const struct handle *h);
        ssize_t (*write)(struct handle *h, const char *data, size_t len);
        int (*flush)(struct handle *h);    /* a descriptor is closed; NULL: nothing to say */
        int (*sync)(struct handle *h);     /* fsync */
        void (*release)(struct handle *h); /* the last descriptor was closed */
        struct list *(*watches)(struct handle *h); /* what tells that a READ may go on, or NULL; NULL: no READ waits */
        void (*truncate)(struct handle *h); /* to nothing, before a write: O_TRUNC or ftruncate; NULL: nothing to do */
        bool stream; /* no open of it has offsets, see handle.h */
};

struct file {
        const char *name; /* NULL: a lease, a job, the root */
        enum file_id parent;
        mode_t mode;
        const struct file_ops *ops; /* NULL for directories and links */
        /* The contents, for files that are text; and their size for all others. */
        int (*render)(const struct target *t, struct buf *out);
        uint64_t (*size)(const struct target *t);
        /* Wall time of the last change, in microseconds; NULL: that of the making of the lease, or of the mount. */
        int64_t (*time)(const struct target *t);
        int argument; /* for ops that serve several rows */
};

extern const struct file files[FILE_N];

/* Find a node. -ESTALE when its lease or job is gone. */
int target_find(struct fs *fs, uint64_t node, struct target *out);

/* Find @name in the directory @dir. -ENOENT. */
int target_lookup(const struct target *dir, const char *name, struct target *out);

/* Find the file that a create of @name makes again or, where its name is there, opens. -EPERM: no file of ours. */
int target_lookup_hidden(const struct target *dir, const char *name, struct target *out);

/* Take the name of a lease's file away, or bring all names of that lease back. */
void target_hide(const struct target *t);
bool target_hidden(const struct target *t);

/* A directory in a lease stays, though rmdir succeeded: it is another one for the kernel, by its generation. */
void target_renew(const struct target *t);
uint64_t target_generation(const struct target *t);

uint64_t target_node(const struct target *t);

/* Everything stat shows. */
void target_stat(const struct target *t, struct stat *st);

/*
 * The entry of the directory @dir that follows @position, 0 at first: its name
 * (good until the next call), target and position. False at the end.
 */
bool target_next(const struct target *dir, uint64_t *position, const char **name, struct target *out);

/* The behaviours. */
extern const struct file_ops cmd_ops, command_ops, stream_ops, text_ops, wait_ops, setting_ops, stdin_ops, ctl_ops,
        pool_ctl_ops, events_ops;

/* Contents of waited-for files: 0, -EAGAIN not yet, -errno never. */
int render_exit_code(const struct target *t, struct buf *out);
int render_environment(const struct target *t, struct buf *out);

/* Contents and sizes that the table names. */
int render_setting(const struct target *t, struct buf *out);
int render_ctl(const struct target *t, struct buf *out);
int render_pool_ctl(const struct target *t, struct buf *out);
uint64_t stream_size(const struct target *t);
uint64_t command_size(const struct target *t);
uint64_t stdin_size(const struct target *t);

/* Times that the table names; times.c. */
int64_t time_now(const struct target *t);
int64_t time_of_leases(const struct target *t);
int64_t time_of_config(const struct target *t);
int64_t time_of_events(const struct target *t);
int64_t time_of_lease(const struct target *t);
int64_t time_of_environment(const struct target *t);
int64_t time_of_setting(const struct target *t);
int64_t time_of_stdin(const struct target *t);
int64_t time_of_submission(const struct target *t);
int64_t time_of_end(const struct target *t);
int64_t time_of_stream(const struct target *t);
int64_t time_of_job(const struct target *t);
