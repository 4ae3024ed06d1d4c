/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An open file, and the reads and writes that wait in it.
 *
 * Made at OPEN, freed at RELEASE. It holds references, so that it can still be
 * read after its lease was released. A read is answered at once, or it waits
 * (request.h) until a change gives it something; so does a write, until there
 * is room for all of it.
 */

#include <stdbool.h>

#include "fs/files.h"
#include "fs/request.h"
#include "pool/backend/connection.h"
#include "pool/util/blob.h"
#include "pool/util/watch.h"

struct open_request;

struct handle {
        struct fs *fs;
        const struct file *file;
        enum file_id id;
        struct lease *lease; /* a reference, or NULL */
        struct mount_pool *pool; /* likewise: of what stands in .pool */
        uid_t uid; /* of the caller that opened it */
        struct job_client client; /* of cmd, where jobs are audited: who that was */
        struct job *job;     /* a reader's reference, or NULL: see handle_bind() */
        int flags;           /* of open */
        struct list link;    /* in fs->handles */

        /* For the behaviours. */
        struct blob blob;  /* what was written */
        struct buf text;   /* what is read */
        uint64_t position; /* in the job: where the newest READ began, or the end of the bytes it returned */
        size_t text_at;    /* of a stream: how much of text was returned */
        uint64_t next_event;
        struct job *draft; /* of cmd: for the command that is being written, or NULL */
        bool wrote;
        bool refused;      /* a write was refused: all that was written is discarded */
        uint64_t written;  /* the size that the writer expects: bytes written, plus those that stdin had at open */
        bool stream;       /* it has no offsets: each read takes the next bytes */

        /* Of a port, and of a watch. */
        struct connection connection;
        struct list connection_watches; /* told when it changes */
        bool connected;                 /* it was opened, and is to be closed */
        bool watch_waits, watching;     /* its path is being looked at, or was accepted */
        uint32_t port;                  /* as in struct target */

        struct list opens; /* the OPEN, while it waits: */
        struct open_request *opening;
        struct list reads, writes; /* waiting READs and WRITEs, oldest first */
        struct fuse_pollhandle *poll; /* to be notified when more can be read or written, or NULL */
        unsigned poll_wanted;         /* the events that it is for … */
        bool poll_writable;           /* … and whether one could write when it came */
        struct watch watch;           /* in use while poll is */
};

/* -errno if the file cannot be opened with these flags. */
int handle_new(struct handle **out, const struct target *t, int flags);

/* RELEASE. Answers waiting READs and WRITEs. */
void handle_free(struct handle *h);

static inline bool handle_can_read(const struct handle *h) {
        return (h->flags & O_ACCMODE) != O_WRONLY;
}

static inline bool handle_can_write(const struct handle *h) {
        return (h->flags & O_ACCMODE) != O_RDONLY;
}

/* The handle's file, as a target: for stat, and for rendering. */
struct target handle_target(const struct handle *h);

/* READ: answers @req now or later. @nonblocking: answers with EAGAIN instead of later. */
void handle_read(struct handle *h, fuse_req_t req, uint64_t offset, size_t len, bool nonblocking);

/*
 * WRITE: answers @req now or later. @nonblocking: writes what there is room for, or answers with EAGAIN. A WRITE that
 * waits has a copy of its bytes; while all such copies have WRITES_WAITING_MAX, it has the first of its bytes, and the
 * answer says how many.
 */
void handle_write(struct handle *h, fuse_req_t req, const char *data, size_t len, bool nonblocking);

/*
 * ftruncate. Written bytes cannot be taken back in part, so @size must be their number, or 0 before the first write.
 * For any other size all that was written is discarded: -EINVAL.
 */
int handle_truncate(struct handle *h, uint64_t size);

/* Discard all that was written, and refuse further writes. */
void handle_refuse(struct handle *h);

/*
 * POLL: returns the events that hold now; @wanted has those that were asked for. @ph, unless NULL, then belongs to the
 * handle, and is notified once when more can be read, or when one can write again. It is kept even if there is something
 * to read now, because an edge-triggered epoll gets no other notification.
 */
unsigned handle_poll(struct handle *h, unsigned wanted, struct fuse_pollhandle *ph);

/*
 * Bind the handle to @job, or to none: later READs return its output from the first byte. The handle takes a reference.
 * A READ that already waits stays with its job.
 */
void handle_bind(struct handle *h, struct job *job);

/* The mount is gone: free every handle, and discard what was written. */
void handles_free_all(struct fs *fs);

/* Whether a read of the handle's job, at the handle's position, would be answered at once. */
bool stream_ready(const struct handle *h);

/* The list to watch for the handle's job; NULL without one. */
struct list *stream_watches(struct handle *h);

/* Answer a READ from @text as the contents of the file. */
ssize_t read_text(const struct buf *text, uint64_t offset, char *data, size_t len);

/* READ of a file that can also be written: its present contents, without what this handle has written so far. */
ssize_t read_rendered(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len);
