/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The tree: all files of the mount, as one static table.
 *
 * A row has a file's place in the tree, its mode, and its behaviour. Each
 * behaviour is a file in fs/tree/ (cmd.c, output.c …). The rows of leases and
 * jobs have no names: these come from the table of leases.
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

        FILE_NAMED_POOL, /* @NAME: in it stand the rows of the root */

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
        FILE_RESULT,
        FILE_STATUS,
        FILE_ERROR,
        FILE_ENVIRONMENT,
        FILE_STDIN,
        FILE_CWD,
        FILE_TIMEOUT,
        FILE_ENV,
        FILE_USER,
        FILE_CTL,
        FILE_TREE,  /* root/: what is in it is not in this table, see fs/remote/remote.h */
        FILE_FILES,
        FILE_WATCH,
        FILE_PORTS,
        FILE_PORT,
        FILE_JOBS,
        FILE_LATEST,

        FILE_JOB,
        FILE_JOB_CMD,
        FILE_JOB_OUTPUT,
        FILE_JOB_STDOUT,
        FILE_JOB_STDERR,
        FILE_JOB_EXIT_CODE,
        FILE_JOB_RESULT,
        FILE_JOB_STATUS,
        FILE_JOB_ERROR,
        FILE_JOB_CTL,

        FILE_NAMED,
        FILE_NAMED_CMD,
        FILE_NAMED_OUTPUT,
        FILE_NAMED_STDOUT,
        FILE_NAMED_STDERR,
        FILE_NAMED_EXIT_CODE,
        FILE_NAMED_RESULT,
        FILE_NAMED_STATUS,
        FILE_NAMED_ERROR,
        FILE_NAMED_STDIN,
        FILE_NAMED_CWD,
        FILE_NAMED_TIMEOUT,
        FILE_NAMED_ENV,
        FILE_NAMED_USER,
        FILE_NAMED_TERMINAL,
        FILE_NAMED_CTL,

        FILE_N,
};

/* A file of the mount: its row, and the lease and job it belongs to. Pointers are borrowed for the turn. */
struct target {
        struct fs *fs;
        enum file_id id;
        struct mount_pool *pool; /* of directories of leases, and of what stands in .pool; elsewhere it may be NULL */
        struct lease *lease; /* of files in a lease */
        struct job *job;     /* of files in a job; elsewhere the newest job or NULL */
        uint32_t port;       /* of FILE_PORT: its number, and above that a number of the open, see target_lookup() */
};

#define TARGET_PORT_BITS 16

/*
 * The behaviour of an open file. All functions return at once. A read that has
 * nothing yet returns -EAGAIN, and is called again when a watch in its list
 * fires. So does a write that has no room, of a file with @writable. The user
 * gets any other -errno.
 */
struct file_ops {
        /* Refuse the open, or prepare the handle. */
        int (*open)(struct handle *h);
        /* Whether the OPEN may be answered: 0, -EAGAIN, or another -errno. Called again when a watch fires. NULL: at once. */
        int (*opened)(struct handle *h);
        int (*read_arrives)(struct handle *h); /* once for each READ, before its first try; NULL: nothing to do */
        /* @job is the handle's when the READ arrived. Called again when a READ that waits wakes up. */
        ssize_t (*read)(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len);
        /* Whether a READ would be answered at once; NULL: always. It changes nothing. */
        bool (*ready)(const struct handle *h);
        /* Takes all bytes, or with @writable as many as there is room for. Up to PIPE_BUF bytes are taken all or none. */
        ssize_t (*write)(struct handle *h, const char *data, size_t len);
        /* Whether there is room for PIPE_BUF bytes, or a WRITE would fail at once; NULL: no WRITE waits. It changes nothing. */
        bool (*writable)(const struct handle *h);
        int (*flush)(struct handle *h);    /* a descriptor is closed; NULL: no errors */
        int (*sync)(struct handle *h);     /* fsync */
        void (*release)(struct handle *h); /* the last descriptor was closed */
        struct list *(*watches)(struct handle *h); /* whose firing wakes a READ or a WRITE, or NULL; NULL: none waits */
        int (*truncate)(struct handle *h); /* to 0 before a write, by O_TRUNC or ftruncate; NULL: nothing to do */
        bool stream; /* open files of it have no offsets, see handle.h */
};

struct file {
        const char *name; /* NULL: a lease, a job, the root */
        enum file_id parent;
        mode_t mode;
        const struct file_ops *ops; /* NULL for directories and links */
        /* The contents of text files; the size of all others. */
        int (*render)(const struct target *t, struct buf *out);
        uint64_t (*size)(const struct target *t);
        /* Wall time of the last change, in microseconds; NULL: when the lease, or the mount, was made. */
        int64_t (*time)(const struct target *t);
        int argument; /* distinguishes rows with the same ops */
        bool unlisted; /* it is there by its name, and readdir does not show it */
};

extern const struct file files[FILE_N];

static inline bool is_file_of_job(enum file_id id) {
        return id >= FILE_JOB && id < FILE_N;
}

/* The job whose file it is; NULL for a file of the lease itself, and of the pool. */
static inline struct job *target_job(const struct target *t) {
        return is_file_of_job(t->id) ? t->job : NULL;
}

/* Find a node. -ESTALE if its pool, lease or job is gone. */
int target_find(struct fs *fs, uint64_t node, struct target *out);

/*
 * Find @name in the directory @dir. -ENOENT.
 *
 * Every lookup of a port finds another file. The kernel lets one process at a time write to a file, and that one may wait for
 * room; so connections to a port are not to be one file.
 */
int target_lookup(const struct target *dir, const char *name, struct target *out);

/*
 * Find the file that a create of @name would restore, or open if its name is there. -EPERM: the tree has no such file.
 */
int target_lookup_hidden(const struct target *dir, const char *name, struct target *out);

/* Hide the name of a lease's file, or of a file in the .pool of another pool than the mount's own; whether it is hidden. */
void target_hide(const struct target *t);
bool target_hidden(const struct target *t);

/* Bring back all names of the file's lease or pool. */
void target_show(const struct target *t);

/* Whether rm -r may remove what stands there, which then is hidden or made anew. */
bool target_removable(const struct target *t);

/*
 * rmdir of a directory in a lease succeeds, but the directory stays. A new generation makes it a new one for the
 * kernel.
 */
void target_renew(const struct target *t);
uint64_t target_generation(const struct target *t);

uint64_t target_node(const struct target *t);

/* The attributes that stat(2) shows. */
void target_stat(const struct target *t, struct stat *st);

/*
 * The entry of the directory @dir after @position, which is 0 at first: its name
 * (valid until the next call), target and position. False at the end.
 */
bool target_next(const struct target *dir, uint64_t *position, const char **name, struct target *out);

/* The behaviours. */
extern const struct file_ops cmd_ops, draft_ops, command_ops, stream_ops, text_ops, wait_ops, setting_ops, stdin_ops, ctl_ops,
        pool_ctl_ops, events_ops, port_ops, watch_ops;

/* Contents of files whose reads wait: 0, -EAGAIN while there are none yet, another -errno if there never will be. */
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
