/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/compare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pool/helper/agent/digest.h"
#include "pool/helper/agent/note.h"
#include "pool/helper/agent/path.h"
#include "pool/util/cleanup.h"

struct comparison {
        struct tree tree;
        const struct manifest *manifest;
        struct removal *removal;
        struct differences *differences;
};

static void add_difference(struct differences *d, const char *path, const char *end) {
        size_t len = strlen(path) + strlen(end) + 1;

        d->n++;
        if (d->n > DIFFERENCES_MAX || len > d->size - d->len)
                return;
        sprintf(d->text + d->len, "%s%s", path, end);
        d->len += len;
}

static bool is_new(const struct comparison *c, const struct tree_entry *e, uint64_t path) {
        if (e->boundary != BOUNDARY_NONE)
                return false;
        if (e->directory)
                return !manifest_find(c->manifest, path);
        return tree_is_younger(&e->ctime, &c->manifest->head->time);
}

/* Once there are many, nobody needs to know more. */
static bool is_decided(const struct comparison *c) {
        return c->differences->n >= DIFFERENCES_MAX;
}

/* The directory at hand, during a walk over its entries. */
struct visit {
        const struct manifest_directory *noted;
        int fd;
        bool bounded;
        uint64_t entries; /* of those that are not new */
        uint32_t n, n_new, n_removed;
        int64_t mtime_ns;
        bool changed; /* it is not as it was, even without what is new */
};

static int compare_directory(struct comparison *c, int fd, const struct manifest_directory *noted);

static int compare_entry(struct comparison *c, struct visit *v, const char *name) {
        uint64_t path = digest_add_string(v->noted->path, name);
        struct tree_entry e;
        int r = tree_read(&c->tree, v->fd, name, v->bounded, &e);

        if (r < 0 || e.boundary == BOUNDARY_UNWATCHED)
                return r == -ENOENT ? 0 : r;
        if (is_new(c, &e, path)) {
                v->n_new++;
                return 0;
        }
        v->entries += e.digest;
        v->n++;
        if (!e.directory)
                return 0;
        r = tree_open(v->fd, name);
        return r < 0 ? r : compare_directory(c, r, manifest_find(c->manifest, path));
}

/* A new entry goes, or is named where it may have been changed. */
static int finish_entry(struct comparison *c, struct visit *v, const char *name) {
        struct tree_entry e;
        int r = tree_read(&c->tree, v->fd, name, v->bounded, &e);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (!is_new(c, &e, digest_add_string(v->noted->path, name)))
                return 0;
        if (v->changed || path_is_within(c->tree.path, c->removal->own)) {
                add_difference(c->differences, c->tree.path, "");
                return 0;
        }
        v->n_removed++;
        return remove_at(c->removal, v->fd, name);
}

static int for_each_entry(struct comparison *c, struct visit *v, DIR *dir,
                          int (*visit)(struct comparison *c, struct visit *v, const char *name)) {
        rewinddir(dir);
        while (!is_decided(c)) {
                struct dirent *e = (errno = 0, readdir(dir));
                size_t len = c->tree.len;
                int r;

                if (!e)
                        return -errno;
                if (tree_is_dot(e->d_name))
                        continue;
                r = tree_push(&c->tree, e->d_name);
                if (r == 0)
                        r = visit(c, v, e->d_name);
                if (r < 0)
                        return r;
                tree_pop(&c->tree, len);
        }
        return 0;
}

static int set_time_back(struct comparison *c, struct visit *v) {
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };

        if (v->n_new == 0 && v->mtime_ns == v->noted->mtime_ns)
                return 0;
        times[1].tv_sec = v->noted->mtime_ns / 1000000000;
        times[1].tv_nsec = v->noted->mtime_ns % 1000000000;
        if (times[1].tv_nsec < 0) {
                times[1].tv_sec--;
                times[1].tv_nsec += 1000000000;
        }
        return futimens(v->fd, times) < 0 ? -errno : 0;
}

static int finish_directory(struct comparison *c, struct visit *v, DIR *dir) {
        int r = 0;

        v->changed = v->entries != v->noted->entries || v->n != v->noted->n;
        if (v->changed && v->n_new == 0)
                add_difference(c->differences, c->tree.path, "/");
        if (v->n_new > 0)
                r = for_each_entry(c, v, dir, finish_entry);
        if (r < 0 || v->changed || is_decided(c))
                return r;
        return v->n_removed < v->n_new ? -ENOTEMPTY : set_time_back(c, v);
}

/* Takes the descriptor. */
static int compare_directory(struct comparison *c, int fd, const struct manifest_directory *noted) {
        struct visit v = {
                .noted = noted, .fd = fd, .bounded = boundary_is_below(c->tree.boundaries, tree_path(&c->tree))
        };
        uint32_t own;
        int r = c->tree.depth == TREE_DEPTH_MAX ? -ELOOP : tree_read_directory(fd, &own, &v.mtime_ns);
        DIR *dir = r < 0 ? NULL : fdopendir(fd);

        if (!dir) {
                r = r < 0 ? r : -errno;
                close(fd);
                return r;
        }
        if (own != noted->own)
                add_difference(c->differences, tree_path(&c->tree), "");
        c->tree.depth++;
        r = for_each_entry(c, &v, dir, compare_entry);
        if (r == 0 && !is_decided(c))
                r = finish_directory(c, &v, dir);
        c->tree.depth--;
        closedir(dir);
        return r;
}

static int restore_emptied(const struct manifest_emptied *noted, const char *path) {
        const char *name;
        _cleanup_(cleanup_close) int parent = path_open_parent(path, false, &name), fd = -1;
        struct stat st;

        if (parent == -ENOENT || parent == -ENOTDIR)
                return 0; /* that is noticed */
        if (parent < 0)
                return parent;
        if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = tree_open(parent, name); /* the paths of these are without links */
        if (fd < 0 || fstat(fd, &st) < 0)
                return fd < 0 ? fd : -errno;
        if ((st.st_uid != noted->uid || st.st_gid != noted->gid) && fchown(fd, noted->uid, noted->gid) < 0)
                return -errno;
        return (st.st_mode & 07777) != noted->mode && fchmod(fd, noted->mode) < 0 ? -errno : 0;
}

int compare_restore_emptied(const struct manifest *m, const struct boundaries *b, struct removal *r) {
        int e = 0;

        for (size_t i = 0; e == 0 && b->emptied[i]; i++) {
                const struct manifest_emptied *noted = &m->head->emptied[i];

                e = noted->exists ? restore_emptied(noted, b->emptied[i]) : remove_path(r, b->emptied[i]);
                if (e < 0)
                        snprintf(r->what, sizeof(r->what), "%s", b->emptied[i]);
        }
        return e;
}

int compare_sandbox(const struct manifest *m, const struct boundaries *b, struct removal *r, struct differences *d) {
        static struct comparison c;
        const struct manifest_directory *noted = manifest_find(m, TREE_ROOT);
        int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), e;

        c = (struct comparison){ .tree.boundaries = b, .manifest = m, .removal = r, .differences = d };
        if (note_digest_of_host() != m->head->host)
                add_difference(d, "/proc/sys/kernel/hostname", "");
        if (fd < 0 || !noted) {
                e = fd < 0 ? -errno : -ENODATA;
                close_fd(fd);
                return e;
        }
        e = compare_directory(&c, fd, noted);
        if (e < 0 && c.tree.len > 0)
                snprintf(r->what, sizeof(r->what), "%s", c.tree.path);
        return e;
}
