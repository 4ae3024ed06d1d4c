/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An archive of what a sandbox of this machine has written: everything on the file system of its root. Not what is mounted
 * there, nor what is the helper's own. Of a sandbox that has one user, so owners are not in it; nor are extended attributes.
 *
 * A sequence of records, each with a head, a path relative to the root, and a target:
 *
 *   DIRECTORY            begins: what is in it follows
 *   DIRECTORY_END        its mode and times, which what follows a beginning would change
 *   FILE                 then pieces: offset and size, both uint64_t, and bytes; one of no bytes ends it. The rest are holes
 *   LINK                 a symbolic link; target
 *   HARD_LINK            another name of a file before; target: its path
 *   FIFO
 *   END                  the last one: without it the archive is not complete
 *
 * It is written by the program that runs on the host, read by the one in the sandbox. Both are of this machine, so numbers
 * have its form.
 */

#include <stdint.h>

#define ARCHIVE_MAGIC UINT64_C(0x31656c6f70646f6d)
#define ARCHIVE_PATH_MAX 4096 /* with a final NUL, which is not written */
#define ARCHIVE_PIECE_MAX (64 << 10)
#define ARCHIVE_DEPTH_MAX 400 /* each level needs a descriptor */

enum archive_type {
        ARCHIVE_DIRECTORY,
        ARCHIVE_DIRECTORY_END,
        ARCHIVE_FILE,
        ARCHIVE_LINK,
        ARCHIVE_HARD_LINK,
        ARCHIVE_FIFO,
        ARCHIVE_END,
};

struct archive_head {
        uint32_t type, mode;
        uint64_t size; /* of a file */
        int64_t mtime_s;
        uint32_t mtime_ns;
        uint16_t path_len, target_len;
};

struct archive_piece {
        uint64_t offset, size;
};

/*
 * `save PID LIMIT`: write the archive of the sandbox whose first process this is to stdout, which may be LIMIT bytes. What
 * changes meanwhile is as it was at some time meanwhile. Returns an exit status, with a line on stderr.
 */
int archive_save(const char *pid, const char *limit);

/* Unpack it into the root of this sandbox. 0 or -errno. */
int archive_unpack(int fd);
