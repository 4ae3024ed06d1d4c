/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An open file, and the reads that wait in it.
 *
 * Made at OPEN, freed at RELEASE. It holds references, so that what it shows
 * outlives the lease. A read is answered at once, or waits (request.h): then
 * the first change that gives it something answers it.
 */

#include <stdbool.h>

#include "fs/files.h"
#include "fs/request.h"
#include "pool/util/blob.h"
#include "pool/util/watch.h"

struct handle {
        struct fs *fs;
        const struct file *file;
        enum file_id id;
        struct lease *lease; /* a reference, or NULL */
        struct job *job;     /* a reader's reference, or NULL: see handle_bind() */
        int flags;           /* of open */
        struct list link;    /* in fs->handles */

        /* For the behaviours' own use. */
        struct blob blob;  /* what was written */
        struct buf text;   /* what is read */
        uint64_t position; /* in the job: where the newest READ began, or behind the last byte that was given */
        size_t text_at;    /* of a stream: how much of text was given */
        uint64_t next_event;
        struct job *draft; /* of cmd: for the command that is being written, or NULL */
        bool wrote;
        bool refused;      /* a write was refused: nothing of it counts */
        uint64_t written;  /* what the writer takes for the size: bytes written, of stdin behind those that were there */
        bool stream;       /* has no offsets: reads take what comes next */

        struct list reads; /* requests that wait here, oldest first */
        struct fuse_pollhandle *poll; /* somebody is to be told when more can be read; or NULL */
        struct watch watch;           /* in use while poll is */
};

/* -errno when the file refuses to be opened like that. */
int handle_new(struct handle **out, const struct target *t, int flags);

/* RELEASE. Answers what still waits. */
void handle_free(struct handle *h);

static inline bool handle_can_read(const struct handle *h) {
        return (h->flags & O_ACCMODE) != O_WRONLY;
}

static inline bool handle_can_write(const struct handle *h) {
        return (h->flags & O_ACCMODE) != O_RDONLY;
}

/* The handle's file, as a target: for stat, and for rendering. */
struct target handle_target(const struct handle *h);

/* READ: answers @req now or later. @nonblocking: with EAGAIN rather than later. */
void handle_read(struct handle *h, fuse_req_t req, uint64_t offset, size_t len, bool nonblocking);

/* WRITE: the number of bytes taken, which is all, or -errno. */
ssize_t handle_write(struct handle *h, const char *data, size_t len);

/*
 * ftruncate: what was written cannot be taken back in part. So @size is that of what was written, or 0 before anything
 * was; -EINVAL for another one, and then nothing that was written counts.
 */
int handle_truncate(struct handle *h, uint64_t size);

/* Nothing that was written counts, and nothing more is taken. */
void handle_refuse(struct handle *h);

/*
 * POLL: the events that hold now. @wanted are those that were asked for. @ph, when given, becomes the handle's own,
 * and is told when more can be read, once. It is kept although there may be something to read already: a program
 * that asks for edges is told of nothing else.
 */
unsigned handle_poll(struct handle *h, unsigned wanted, struct fuse_pollhandle *ph);

/*
 * From now on, reads that arrive are about @job, or NULL, from its first byte; the handle takes a reference. A read that
 * waits already stays with the job that it came for.
 */
void handle_bind(struct handle *h, struct job *job);

/* Free every handle, as if none had ever been written to: the mount is gone. */
void handles_free_all(struct fs *fs);

/* Whether a read of the handle's job, at the handle's position, would be answered at once. */
bool stream_ready(const struct handle *h);

/* The list to watch for the handle's job; NULL without one. */
struct list *stream_watches(struct handle *h);

/* Serve @text by offsets, as if it were the file. */
ssize_t read_text(const struct buf *text, uint64_t offset, char *data, size_t len);

/* The read of a file that is written as well: its contents as they are now, whatever the handle has gathered. */
ssize_t read_rendered(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len);
