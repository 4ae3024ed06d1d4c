/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How a sandbox was when it became ready, so that a clean-up can tell whether it is so again. A manifest is a file of
 * one record of 32 bytes for each directory, and a head. It is a memfd of the helper. The process that notes the sandbox
 * writes it (note.h), and the one that compares reads it (compare.h).
 *
 * A directory's mode, owner, extended attributes and entries count. Of an entry count, if it is
 *
 *   a directory          name
 *   a device             name, type, mode, owner, number; its times move when it is used
 *   a boundary           see boundary.h
 *   anything else        name, type, mode, owner, size, mtime, ctime, target of a link
 *
 * The digests of the entries are added up, so their order does not matter. Inode numbers do not count: not every file
 * system keeps them, and whatever replaces a file has a new ctime. Numbers of file systems do not count either: gVisor
 * shows another one for each file.
 *
 * The comparison relies on ctime, the time of the last change, which nobody can set back. An entry is new if its ctime
 * is younger than the note; a directory is new if it has no record. Where the entries that are not new add up to what
 * was noted, the new ones were added, and the comparison removes them. Otherwise something was changed, moved or removed.
 * Then the comparison names the new entries, or the directory if there are none. It sets back the times of directories,
 * which move when something is added.
 *
 *   undone    files, links, directories, devices that were added anywhere; times of directories; what is in emptied
 *             directories, their mode and owner; and what a clean-up ends before: processes, mounts, System V objects
 *   noticed   content that was changed, appended or truncated, also where mtime and size are as before; a file that was
 *             removed, renamed, replaced, or moved over; two that were swapped; mode, owner, extended attributes; a hard
 *             link to what was there, even if that link is gone again; a link or a directory in place of a file
 *   not seen  a change of unwatched paths, volumes, read-only mounts; a POSIX message queue. In gVisor, if the file had
 *             been changed before the note: a write through mapped memory, an extended attribute, a hard link that is
 *             gone again
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
