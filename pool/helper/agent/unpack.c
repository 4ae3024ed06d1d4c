/* SPDX-License-Identifier: MIT */

/* Reading an archive into the root of a sandbox, before anything else is there. Some directories are, and mounts. */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/helper/agent/archive.h"
#include "pool/util/cleanup.h"

struct unpack {
        FILE *from;
        int root;
        struct archive_head head;
        char path[ARCHIVE_PATH_MAX], target[ARCHIVE_PATH_MAX];
};

static int get(struct unpack *u, void *out, size_t len) {
        return fread(out, 1, len, u->from) == len ? 0 : -EBADMSG;
}

static int get_text(struct unpack *u, char out[ARCHIVE_PATH_MAX], size_t len) {
        int r = len < ARCHIVE_PATH_MAX ? get(u, out, len) : -EBADMSG;

        if (r < 0)
                return r;
        out[len] = '\0';
        return strlen(out) == len ? 0 : -EBADMSG;
}

static const char *path_of(const struct unpack *u) {
        return *u->path ? u->path : ".";
}

static int set_times(const struct unpack *u) {
        const struct timespec mtime = { u->head.mtime_s, u->head.mtime_ns };

        return utimensat(u->root, path_of(u), (const struct timespec[]){ mtime, mtime }, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int set_mode(const struct unpack *u) {
        int r = fchmodat(u->root, path_of(u), u->head.mode, 0) < 0 ? -errno : 0;

        return r == 0 ? set_times(u) : r;
}

/* What the sandbox begins with is replaced, but a directory stays one. */
static int make_room(const struct unpack *u) {
        return unlinkat(u->root, path_of(u), 0) < 0 && errno != ENOENT && errno != EISDIR ? -errno : 0;
}

static int unpack_directory(const struct unpack *u) {
        struct stat st;

        if (mkdirat(u->root, path_of(u), 0700) == 0)
                return 0;
        if (errno != EEXIST)
                return -errno;
        if (fstatat(u->root, path_of(u), &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return 0;
        return unlinkat(u->root, path_of(u), 0) < 0 || mkdirat(u->root, path_of(u), 0700) < 0 ? -errno : 0;
}

static int unpack_pieces(struct unpack *u, int fd) {
        static char bytes[ARCHIVE_PIECE_MAX];
        struct archive_piece p;
        int r;

        while ((r = get(u, &p, sizeof(p))) == 0 && p.size > 0) {
                if (p.size > sizeof(bytes))
                        return -EBADMSG;
                r = get(u, bytes, p.size);
                if (r < 0)
                        return r;
                for (size_t done = 0; done < p.size;) {
                        ssize_t n = pwrite(fd, bytes + done, p.size - done, (off_t)(p.offset + done));

                        if (n < 0)
                                return -errno;
                        done += n;
                }
        }
        return r;
}

static int unpack_file(struct unpack *u) {
        _cleanup_(cleanup_close) int fd = -1;
        int r = make_room(u);

        if (r < 0)
                return r;
        fd = openat(u->root, path_of(u), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = unpack_pieces(u, fd);
        if (r == 0 && ftruncate(fd, (off_t)u->head.size) < 0)
                r = -errno;
        return r == 0 ? set_mode(u) : r;
}

static int unpack_link(const struct unpack *u) {
        int r = make_room(u);

        if (r == 0 && symlinkat(u->target, u->root, path_of(u)) < 0)
                r = -errno;
        return r == 0 ? set_times(u) : r;
}

static int unpack_hard_link(const struct unpack *u) {
        int r = make_room(u);

        return r == 0 && linkat(u->root, u->target, u->root, path_of(u), 0) < 0 ? -errno : r;
}

static int unpack_fifo(const struct unpack *u) {
        int r = make_room(u);

        if (r == 0 && mkfifoat(u->root, path_of(u), 0600) < 0)
                r = -errno;
        return r == 0 ? set_mode(u) : r;
}

static int unpack_one(struct unpack *u) {
        switch (u->head.type) {
        case ARCHIVE_DIRECTORY:
                return unpack_directory(u);
        case ARCHIVE_DIRECTORY_END:
                return set_mode(u);
        case ARCHIVE_FILE:
                return unpack_file(u);
        case ARCHIVE_LINK:
                return unpack_link(u);
        case ARCHIVE_HARD_LINK:
                return unpack_hard_link(u);
        case ARCHIVE_FIFO:
                return unpack_fifo(u);
        default:
                return -EBADMSG;
        }
}

static int unpack_all(struct unpack *u) {
        uint64_t magic;
        int r = get(u, &magic, sizeof(magic));

        if (r == 0 && magic != ARCHIVE_MAGIC)
                r = -EBADMSG;
        while (r == 0) {
                r = get(u, &u->head, sizeof(u->head));
                if (r == 0 && u->head.type == ARCHIVE_END)
                        return 0;
                if (r == 0)
                        r = get_text(u, u->path, u->head.path_len);
                if (r == 0)
                        r = get_text(u, u->target, u->head.target_len);
                if (r == 0)
                        r = unpack_one(u);
        }
        return r;
}

int archive_unpack(int fd) {
        static struct unpack u;
        int r;

        u.from = fdopen(fd, "r");
        u.root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = !u.from || u.root < 0 ? -errno : unpack_all(&u);
        if (u.from)
                fclose(u.from);
        close_fd(u.root);
        return r;
}
