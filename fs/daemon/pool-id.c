/* SPDX-License-Identifier: MIT */
#include "fs/daemon/pool-id.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/io.h"

#define FILE_SIZE_MAX (PATH_MAX + 256)
#define UNKNOWN "-" /* in the file, for a machine without an id */

/* What an id belongs to. */
struct binding {
        char machine[MACHINE_ID_SIZE]; /* "": unknown */
        uint64_t inode;
        int64_t born_ns; /* 0: unknown */
        char path[PATH_MAX];
};

void machine_id_read(char machine[MACHINE_ID_SIZE]) {
        _cleanup_(cleanup_close) int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read_at(fd, machine, MACHINE_ID_SIZE - 1, 0);

        machine[n == MACHINE_ID_SIZE - 1 ? n : 0] = '\0';
        if (strspn(machine, "0123456789abcdef") < MACHINE_ID_SIZE - 1)
                machine[0] = '\0'; /* such as "uninitialized" */
}

/* The binding of the file @fd as it is now. */
static int binding_of(int fd, const char *path, const char *machine, struct binding *b) {
        struct statx st;

        if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0)
                return -errno;
        *b = (struct binding){ .inode = st.stx_ino };
        if (st.stx_mask & STATX_BTIME)
                b->born_ns = st.stx_btime.tv_sec * INT64_C(1000000000) + st.stx_btime.tv_nsec;
        snprintf(b->machine, sizeof(b->machine), "%s", machine);
        snprintf(b->path, sizeof(b->path), "%s", path);
        return 0;
}

static bool is_same(const struct binding *a, const struct binding *b) {
        return (!*a->machine || !*b->machine || !strcmp(a->machine, b->machine)) && a->inode == b->inode &&
               (!a->born_ns || !b->born_ns || a->born_ns == b->born_ns) && !strcmp(a->path, b->path);
}

/* The path comes last, as it may hold any byte. */
static int parse(char *text, struct binding *b) {
        int n = -1;
        size_t len;

        *b = (struct binding){};
        if (sscanf(text, "\nmachine %32s\nfile %" SCNu64 " %" SCNd64 "\npath %n", b->machine, &b->inode, &b->born_ns, &n) !=
                    3 ||
            n < 0)
                return -EUCLEAN;
        if (!strcmp(b->machine, UNKNOWN))
                b->machine[0] = '\0';
        text += n;
        len = strlen(text);
        if (len == 0 || len > sizeof(b->path) || text[len - 1] != '\n')
                return -EUCLEAN;
        memcpy(b->path, text, len - 1);
        return 0;
}

static int write_file(int dir, const char *path, const char *machine, const char *id) {
        _cleanup_(cleanup_close) int fd = -1;
        char text[FILE_SIZE_MAX];
        struct binding now;
        int n, r;

        /* Never write to the file itself: an unfinished file must not have its name. */
        if (unlinkat(dir, "pool.new", 0) < 0 && errno != ENOENT)
                return -errno;
        fd = openat(dir, "pool.new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        r = binding_of(fd, path, machine, &now);
        if (r < 0)
                return r;
        n = snprintf(text, sizeof(text), "%s\nmachine %s\nfile %" PRIu64 " %" PRId64 "\npath %s\n", id,
                     *now.machine ? now.machine : UNKNOWN, now.inode, now.born_ns, now.path);
        r = write_at(fd, text, n, 0);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        if (r == 0 && renameat(dir, "pool.new", dir, "pool") < 0)
                r = -errno;
        return r;
}

int pool_id_read(int dir, const char *path, const char *machine, char id[UUID_SIZE]) {
        _cleanup_(cleanup_close) int fd = openat(dir, "pool", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct binding then, now;
        char text[FILE_SIZE_MAX];
        ssize_t n;
        int r;

        if (fd < 0)
                return -errno;
        n = read_at(fd, text, sizeof(text) - 1, 0);
        if (n < 0)
                return n;
        if (n < UUID_SIZE - 1)
                return -EUCLEAN;
        text[n] = '\0';
        memcpy(id, text, UUID_SIZE - 1);
        id[UUID_SIZE - 1] = '\0';
        if (n == UUID_SIZE - 1) /* of a version that wrote no more */
                return write_file(dir, path, machine, id);
        r = parse(text + UUID_SIZE - 1, &then);
        if (r == 0)
                r = binding_of(fd, path, machine, &now);
        if (r < 0)
                return r;
        if (!is_same(&then, &now))
                return -EXDEV;
        /* The machine has an id now: record it. */
        return *now.machine && !*then.machine ? write_file(dir, path, machine, id) : 0;
}

int pool_id_make(int dir, const char *path, const char *machine, char id[UUID_SIZE]) {
        int r = uuid_make(id);

        return r < 0 ? r : write_file(dir, path, machine, id);
}
