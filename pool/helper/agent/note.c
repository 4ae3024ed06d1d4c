/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/note.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "pool/helper/agent/digest.h"
#include "pool/helper/agent/path.h"
#include "pool/util/cleanup.h"

#define TICK_MS 20       /* the clock of files moves at least so often */
#define SETTLE_ROUNDS 50 /* ticks until it has to be past all that was noted */

struct noting {
        struct tree tree;
        struct manifest_writer writer;
};

uint64_t note_digest_of_lists(const struct boundaries *b) {
        uint64_t digest = 0;

        for (const char *const *p = b->emptied; *p; p++)
                digest = digest_add_string(digest, *p);
        digest = digest_add(digest, 1);
        for (const char *const *p = b->unwatched; *p; p++)
                digest = digest_add_string(digest, *p);
        return digest;
}

uint64_t note_digest_of_host(void) {
        struct utsname name;

        return uname(&name) < 0 ? 0 : digest_add_string(digest_add_string(0, name.nodename), name.domainname);
}

static int note_directory(struct noting *n, int fd, uint64_t path);

static int note_entry(struct noting *n, int dir, const char *name, bool bounded, struct manifest_directory *d) {
        struct tree_entry e;
        int r = tree_read(&n->tree, dir, name, bounded, &e);

        if (r < 0 || e.boundary == BOUNDARY_UNWATCHED)
                return r == -ENOENT ? 0 : r;
        d->entries += e.digest;
        d->n++;
        n->writer.head.n_entries++;
        if (tree_is_younger(&e.ctime, &n->writer.head.time))
                n->writer.head.time = e.ctime;
        if (!e.directory)
                return 0;
        r = tree_open(dir, name);
        return r < 0 ? r : note_directory(n, r, digest_add_string(d->path, name));
}

/* Takes the descriptor. */
static int note_directory(struct noting *n, int fd, uint64_t path) {
        struct manifest_directory d = { .path = path };
        bool bounded = boundary_is_below(n->tree.boundaries, tree_path(&n->tree));
        int r = n->tree.depth == TREE_DEPTH_MAX ? -ELOOP : tree_read_directory(fd, &d.own, &d.mtime_ns);
        DIR *dir = r < 0 ? NULL : fdopendir(fd);
        struct dirent *e;

        if (!dir) {
                r = r < 0 ? r : -errno;
                close(fd);
                return r;
        }
        n->tree.depth++;
        while (r == 0 && (errno = 0, e = readdir(dir))) {
                size_t len = n->tree.len;

                if (tree_is_dot(e->d_name))
                        continue;
                r = tree_push(&n->tree, e->d_name);
                if (r == 0)
                        r = note_entry(n, fd, e->d_name, bounded, &d);
                if (r == 0)
                        tree_pop(&n->tree, len);
        }
        if (r == 0)
                r = -errno;
        n->tree.depth--;
        closedir(dir);
        return r < 0 ? r : manifest_add(&n->writer, &d);
}

static int note_emptied(struct noting *n) {
        const char *const *paths = n->tree.boundaries->emptied;

        for (size_t i = 0; paths[i]; i++) {
                struct manifest_emptied *e = &n->writer.head.emptied[i];
                _cleanup_(cleanup_close) int fd = -1;
                struct stat st;

                if (i == MANIFEST_EMPTIED_MAX)
                        return -E2BIG;
                fd = path_open(paths[i], false);
                if (fd < 0)
                        continue;
                if (fstat(fd, &st) < 0)
                        return -errno;
                *e = (struct manifest_emptied){
                        .exists = true, .mode = st.st_mode & 07777, .uid = st.st_uid, .gid = st.st_gid
                };
        }
        return 0;
}

/* Until the clock is past the youngest entry: one that was changed in the same tick would look like that one. */
static void settle(const struct timespec *youngest) {
        struct timespec now;

        for (int i = 0; i < SETTLE_ROUNDS; i++) {
                poll(NULL, 0, TICK_MS);
                clock_gettime(CLOCK_REALTIME, &now);
                now.tv_nsec -= TICK_MS / 2 * 1000000;
                if (now.tv_nsec >= 0 && tree_is_younger(&now, youngest))
                        return;
        }
}

int note_sandbox(int fd, const struct boundaries *b, char *what, size_t size, uint64_t *n_entries,
                 uint64_t *n_directories) {
        static struct noting n;
        int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = root < 0 ? -errno : 0;

        n.tree = (struct tree){ .boundaries = b };
        if (r == 0)
                r = manifest_begin(&n.writer, fd);
        clock_gettime(CLOCK_REALTIME, &n.writer.head.time);
        n.writer.head.host = note_digest_of_host();
        n.writer.head.lists = note_digest_of_lists(b);
        if (r == 0)
                r = note_emptied(&n);
        if (r == 0)
                r = note_directory(&n, root, TREE_ROOT);
        snprintf(what, size, "%s", tree_path(&n.tree));
        if (r < 0)
                return r;
        settle(&n.writer.head.time);
        *n_entries = n.writer.head.n_entries;
        r = manifest_finish(&n.writer);
        *n_directories = n.writer.head.n_directories;
        return r;
}
