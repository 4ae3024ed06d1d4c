/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Calls about the files of a sandbox, and their answers: the data of CALL and ANSWER. See protocol.h for their numbers.
 * Both ends use this file, and it needs nothing but libc.
 *
 * A call names a file by its directory and its name there, or by a handle. The directory is the names from the root on,
 * joined by "/", and "" for the root itself; none of them is a link. The name "." means the directory itself. Nothing on
 * the way is followed: what the caller took for a directory and is a link now gives ENOTDIR or ELOOP. Each path is
 * resolved once, and the rest of the call goes by descriptors.
 *
 * A handle is an open file, or a listing that is not at its end. It is of one process of the helper: after a clean-up, or
 * when that process was killed, it gives EBADF.
 *
 * What lies in proc, sysfs, /dev and the like is not there: those directories are empty, and nothing can be made in them.
 * Only regular files are opened.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/helper/limits.h"

enum file_op {
        FILE_OP_NONE, /* does nothing: in place of one that nobody waits for any more */

        /* By name. The answer is attributes; behind those of what was made, those of the directory that it was made in. */
        FILE_OP_LOOKUP,
        FILE_OP_SET,     /* attributes, by name or by handle: those of @which */
        FILE_OP_MKDIR,   /* mode, uid, gid */
        FILE_OP_MKNOD,   /* mode: a regular file, a fifo or a socket; uid, gid */
        FILE_OP_SYMLINK, /* data: the target; uid, gid */
        FILE_OP_LINK,    /* dir2, name2: the new name */

        /* By name. The answer is the attributes of the directory, for RENAME of the old one and then of the new one. */
        FILE_OP_UNLINK,
        FILE_OP_RMDIR,
        FILE_OP_RENAME,  /* dir2, name2: the new name; flags of renameat2(2) */

        /* The answer is empty. */
        FILE_OP_PREPARE, /* data: the workdir, an absolute path; made, and emptied before with FILE_PREPARE_FRESH */

        /* By name. */
        FILE_OP_READLINK, /* data: the target, see file_readlink() in agent/files/link.h */
        FILE_OP_STATFS,   /* struct file_space */
        FILE_OP_LIST,     /* struct file_handle_head, then entries; by name, or by the handle for what follows */
        FILE_OP_OPEN,     /* flags of open(2); struct file_handle_head, then the contents if they are few */
        FILE_OP_CREATE,   /* mode, uid, gid; struct file_handle_head, then attributes of the directory */

        /* By handle. */
        FILE_OP_STAT,  /* attributes */
        FILE_OP_READ,  /* size, offset; bytes, fewer only at the end of the file */
        FILE_OP_WRITE, /* data, offset; all is written, or an error: attributes */
        FILE_OP_SYNC,  /* flags 1: only the data; by handle, or a directory by name */
        FILE_OP_CLOSE,
        FILE_OP_SEEK,     /* offset, flags: SEEK_DATA or SEEK_HOLE; u64 */
        FILE_OP_ALLOCATE, /* flags of fallocate(2), offset, size; attributes */
        FILE_OP_COPY,     /* from offset of handle to offset2 of handle2, size; u64: bytes, maybe fewer */

        /* Extended attributes, by name: name2 is that of the attribute. */
        FILE_OP_GETXATTR,  /* data: the value */
        FILE_OP_LISTXATTR, /* data: names, each with a final NUL */
        FILE_OP_SETXATTR,  /* data, flags of setxattr(2) */
        FILE_OP_REMOVEXATTR,

        FILE_OP_N,
};

enum { FILE_PREPARE_FRESH = 1 };

/* @which of FILE_OP_SET. A time is set to @atime, @mtime, or to now. */
enum {
        FILE_SET_MODE = 1,
        FILE_SET_UID = 2,
        FILE_SET_GID = 4,
        FILE_SET_SIZE = 8,
        FILE_SET_ATIME = 16,
        FILE_SET_MTIME = 32,
        FILE_SET_ATIME_NOW = 64,
        FILE_SET_MTIME_NOW = 128,
};

#define FILE_NO_ID UINT32_MAX /* uid or gid: as it comes */

struct file_time {
        int64_t s;
        uint32_t ns;
};

/* Those that an op does not mention are 0 or NULL. Strings and data are borrowed. */
struct file_call_args {
        enum file_op op;
        uint32_t flags, mode, uid, gid;
        uint32_t which;
        uint64_t handle, handle2, offset, offset2, size;
        struct file_time atime, mtime;
        const char *dir, *name, *dir2, *name2;
        const void *data;
        size_t len;
};

enum { FILE_HAS_XATTRS = 1 };

struct file_attributes {
        uint32_t mode, nlink, uid, gid;
        uint64_t ino, dev, size, blocks;
        uint64_t rdev;
        struct file_time atime, mtime, ctime;
        uint8_t flags;
};

/* In front of what LIST, OPEN and CREATE give. @handle is 0 at the end of a listing. @whole: contents follow, to the end. */
struct file_handle_head {
        uint64_t handle;
        uint8_t whole;
        struct file_attributes attributes;
};

struct file_space {
        uint64_t block_size, fragment_size, blocks, free_blocks, available_blocks, files, free_files, name_max;
};

/* Bytes on the wire. */
#define FILE_ARGS_SIZE 85
#define FILE_ATTRIBUTES_SIZE 93
#define FILE_HANDLE_HEAD_SIZE (9 + FILE_ATTRIBUTES_SIZE)
#define FILE_SPACE_SIZE 64

/* The data of a CALL: its size, at most HELPER_DATA_MAX, or -ENAMETOOLONG, -EFBIG. */
ssize_t file_call_encode(const struct file_call_args *a, uint8_t *out);

/* The reverse: 0, or -EPROTO. What is borrowed lies in @data. Names may be anything but NULL. */
int file_call_decode(struct file_call_args *a, const uint8_t *data, size_t len);

/* Parts of answers: bytes that were written or read. */
size_t file_put_attributes(uint8_t *out, const struct file_attributes *a);
size_t file_put_handle_head(uint8_t *out, const struct file_handle_head *h);
size_t file_put_space(uint8_t *out, const struct file_space *s);
size_t file_put_u64(uint8_t *out, uint64_t value);

/* -EPROTO when there are too few bytes, or what they say cannot be. */
int file_get_attributes(struct file_attributes *a, const uint8_t *data, size_t len);
int file_get_handle_head(struct file_handle_head *h, const uint8_t *data, size_t len);
int file_get_space(struct file_space *s, const uint8_t *data, size_t len);
int file_get_u64(uint64_t *value, const uint8_t *data, size_t len);

/* An entry of a listing. */
struct file_entry {
        const char *name; /* without a final NUL */
        uint8_t name_len;
        struct file_attributes attributes;
};

size_t file_entry_size(size_t name_len);
size_t file_put_entry(uint8_t *out, const struct file_entry *e);

/* Takes the next one from *@data. 1, 0 at the end, or -EPROTO. The name may be anything. */
int file_get_entry(struct file_entry *e, const uint8_t **data, size_t *len);
