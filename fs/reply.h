/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The kinds of requests. A kind sends the answer of success to the kernel; any
 * request can also be answered with an error (request.h).
 *
 * All of these but OPEN are answered in the turn in which they arrive. So they
 * stay on the stack of their operation, and their pointers are borrowed for the
 * turn.
 */

#include "fs/files.h"
#include "fs/handle.h"
#include "fs/request.h"

/* LOOKUP, MKDIR; GETATTR, SETATTR. */
struct target_request {
        struct request request;
        struct target target;
};

extern const struct request_kind entry_kind, attributes_kind;

/* READDIR: the result is the number of bytes. READLINK: data is a string. */
struct data_request {
        struct request request;
        const char *data;
};

extern const struct request_kind data_kind, link_kind;

/*
 * OPEN, CREATE. The handle is the request's until the kernel has it. If the kernel no longer wants the answer, or is given an
 * error, the handle is freed. An OPEN may wait (open.c).
 */
struct open_request {
        struct request request;
        struct handle *handle;
        const struct target *created; /* of CREATE, whose answer has the node too; else NULL */
        struct watch watch;
};

extern const struct request_kind open_kind;
void open_answered(struct request *r);

/* An OPEN that has its handle: answers it now or later. */
void open_answer(struct open_request *now);

/* Of cmd, where jobs are audited: note who opens it. Reads /proc. */
void open_note_client(struct handle *h, const struct fuse_ctx *ctx);

struct opendir_request {
        struct request request;
        const struct fuse_file_info *fi;
};

extern const struct request_kind opendir_kind;

struct statfs_request {
        struct request request;
        struct statvfs st;
};

extern const struct request_kind statfs_kind;

/* POLL: the result is the events. It is a plain struct request. */
extern const struct request_kind poll_kind;
