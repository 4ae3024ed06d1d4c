/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The kinds of requests, by what success answers: each sends its own answer to
 * the kernel, and any of them can end with an error instead (request.h).
 *
 * All of these are answered in the turn in which they come. So they stay on the
 * stack of their operation, and what they point to is borrowed for the turn.
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

/* OPEN, CREATE. If the kernel does not want the answer any more, the handle is freed. */
struct open_request {
        struct request request;
        struct handle *handle;
        const struct target *created; /* of a create, which also names the node; else NULL */
};

extern const struct request_kind open_kind;

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

/* WRITE: the result is the number of bytes. POLL: the events. Both are a plain struct request. */
extern const struct request_kind write_kind, poll_kind;
