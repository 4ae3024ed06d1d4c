/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is mounted, as /proc/self/mountinfo shows it. Used in a process of its own, so it may take memory as it needs
 * it; but for mounts_copy().
 */

#include <stdbool.h>
#include <stddef.h>

#define MOUNTS_TEXT_MAX (1 << 20)

struct mount {
        const char *line;  /* the whole of it */
        const char *point; /* where, without the escapes of the line */
        const char *type;  /* of its file system */
        bool read_only;    /* there */
};

struct mounts {
        char *text, *names;
        struct mount *list; /* in the kernel's order: what lies over another comes after it */
        size_t n;
};

#define MOUNTS_INIT {}

/* Copies what the kernel says now to a file. 0 or -errno. */
int mounts_copy(int proc, int fd);

/* What the kernel says now, or what a file says. 0 or -errno. */
int mounts_read(struct mounts *m, int proc);
int mounts_read_file(struct mounts *m, int fd);
void mounts_deinit(struct mounts *m);

/* The mount with the same number, or NULL. */
const struct mount *mounts_find(const struct mounts *m, const struct mount *same);

/*
 * Unmounts what was not there when @noted was made. 0, or -errno and in @what a mount that stays, or that was there
 * and is gone or has changed.
 */
int mounts_undo(int proc, int noted, char *what, size_t size);
