/* SPDX-License-Identifier: MIT */
#pragma once

/* A walk over the watched part of a sandbox, and what counts of each entry: see manifest.h. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "pool/helper/agent/boundary.h"
#include "pool/helper/agent/manifest.h"

#define TREE_DEPTH_MAX 400 /* each level needs a descriptor */
#define TREE_ROOT UINT64_C(1) /* the digest of "/" */

struct tree {
        const struct boundaries *boundaries;
        char path[4096]; /* of what is at hand */
        size_t len;      /* 0: "/" */
        unsigned depth;
};

struct tree_entry {
        enum boundary boundary;
        bool directory;    /* that is walked into */
        uint64_t digest;   /* of what counts */
        struct timespec ctime;
};

/* Goes to an entry of the directory at hand; -ENAMETOOLONG. And back, where @len was before. */
int tree_push(struct tree *t, const char *name);
void tree_pop(struct tree *t, size_t len);

/* "/" where that is at hand. */
const char *tree_path(const struct tree *t);

/* The entry at hand, which is @name in @dir. @bounded: see boundary_is_below(). 0, or -errno; -ENOENT: it is gone. */
int tree_read(const struct tree *t, int dir, const char *name, bool bounded, struct tree_entry *e);

/* An entry that is a directory, or -errno. */
int tree_open(int dir, const char *name);

/* What counts of the directory itself. 0 or -errno. */
int tree_read_directory(int fd, uint32_t *own, int64_t *mtime_ns);

static inline bool tree_is_dot(const char *name) {
        return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static inline bool tree_is_younger(const struct timespec *a, const struct timespec *b) {
        return a->tv_sec > b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec > b->tv_nsec);
}
