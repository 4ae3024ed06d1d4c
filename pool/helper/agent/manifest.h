/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How a sandbox was when it became ready, so that a clean-up can tell whether it is so again: a file of one record for
 * each directory, 32 bytes, and a head. It is a memfd, which is the helper's; a process of its own writes it (note.h)
 * and another one reads it (compare.h).
 *
 * What counts of a directory is its mode, owner, extended attributes, and its entries. Of these count
 *
 *   directories          name
 *   files, links, …      name, type, mode, owner, size, mtime, ctime, target
 *   devices              name, type, mode, owner, number; their times move when they are used
 *   boundaries           see boundary.h
 *
 * The digests of the entries are added up, so that their order does not matter. There are no inode numbers in it: not
 * every file system keeps them, and what replaces a file has a new ctime. Device numbers are none either: gVisor has a
 * new one for each file.
 *
 * The time of the last change, ctime, cannot be set back, and that is what the comparison builds on. An entry is new if
 * its ctime is younger than the note, or if it is a directory that has no record. If what is left of a directory without
 * its new entries is what was noted, the new ones were added, and go. Else something was changed, moved or removed; the
 * new entries are named then, or the directory where there are none. Times of directories are set back, as whatever is
 * added in one moves them.
 *
 *   undone    files, links, directories, devices added anywhere; times of directories; what is in emptied directories,
 *             and their mode and owner; before that, whatever a clean-up ends: processes and what goes with them, mounts,
 *             System V objects
 *   noticed   content changed in place, appended, truncated, also with mtime and size as before; a file removed,
 *             renamed, replaced, moved over; two files or directories swapped; mode, owner, extended attributes;
 *             a hard link to what was there, even when that link is gone again; a file replaced by a link or a directory
 *   not seen  a change within unwatched paths, volumes, read-only mounts; a POSIX message queue; in gVisor, of a file that had been changed
 *             before the note: a write to shared memory that is mapped, an extended attribute, a hard link
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define MANIFEST_DIRECTORIES_MAX (1 << 20)
#define MANIFEST_EMPTIED_MAX 64

struct manifest_directory {
        uint64_t path;    /* a digest of it */
        uint64_t entries; /* the sum of their digests */
        int64_t mtime_ns; /* since 1970 */
        uint32_t n;       /* entries */
        uint32_t own;     /* a digest of its own attributes */
};

struct manifest_emptied {
        bool exists; /* as a directory */
        mode_t mode;
        uid_t uid;
        gid_t gid;
};

struct manifest_head {
        uint64_t complete; /* MANIFEST_COMPLETE, once it is */
        struct timespec time;
        uint64_t n_directories, n_entries;
        uint64_t host, lists; /* digests of the name of the host, and of what is emptied and unwatched */
        struct manifest_emptied emptied[MANIFEST_EMPTIED_MAX];
};

#define MANIFEST_COMPLETE UINT64_C(0x656c62616e726574)

/* Written: the head is its owner's to fill, records come in any order. */
struct manifest_writer {
        int fd;
        struct manifest_head head;
        struct manifest_directory buffer[128];
        size_t n_buffered;
};

int manifest_begin(struct manifest_writer *w, int fd);
int manifest_add(struct manifest_writer *w, const struct manifest_directory *d);
int manifest_finish(struct manifest_writer *w);

/* Read. */
struct manifest {
        const struct manifest_head *head;
        const struct manifest_directory *directories;
};

/* 0, -ENODATA when there is no complete one, or -errno. */
int manifest_open(struct manifest *m, int fd);

/* @path: a digest. Or NULL. */
const struct manifest_directory *manifest_find(const struct manifest *m, uint64_t path);
