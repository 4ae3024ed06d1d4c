/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/util/io.h"

static uint64_t offset_of(uint64_t n) {
        return sizeof(struct manifest_head) + n * sizeof(struct manifest_directory);
}

int manifest_begin(struct manifest_writer *w, int fd) {
        *w = (struct manifest_writer){ .fd = fd };
        return ftruncate(fd, 0) < 0 ? -errno : 0;
}

static int flush(struct manifest_writer *w) {
        uint64_t n = w->head.n_directories;
        int r = write_at(w->fd, w->buffer, w->n_buffered * sizeof(*w->buffer), offset_of(n));

        w->head.n_directories += w->n_buffered;
        w->n_buffered = 0;
        return r;
}

int manifest_add(struct manifest_writer *w, const struct manifest_directory *d) {
        w->buffer[w->n_buffered++] = *d;
        if (w->n_buffered < sizeof(w->buffer) / sizeof(*w->buffer))
                return 0;
        return w->head.n_directories >= MANIFEST_DIRECTORIES_MAX ? -EFBIG : flush(w);
}

static int compare_paths(const void *a, const void *b) {
        uint64_t x = ((const struct manifest_directory *)a)->path, y = ((const struct manifest_directory *)b)->path;

        return (x > y) - (x < y);
}

/* Sorts the records where they are. Two that have the same digest could not be told apart. */
static int sort(struct manifest_writer *w) {
        size_t n = w->head.n_directories;
        char *map = mmap(NULL, offset_of(n), PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
        struct manifest_directory *d;
        int r = 0;

        if (map == MAP_FAILED)
                return -errno;
        d = (struct manifest_directory *)(map + offset_of(0));
        qsort(d, n, sizeof(*d), compare_paths);
        for (size_t i = 1; i < n; i++)
                if (d[i].path == d[i - 1].path)
                        r = -EEXIST;
        munmap(map, offset_of(n));
        return r;
}

int manifest_finish(struct manifest_writer *w) {
        int r = flush(w);

        if (r == 0)
                r = sort(w);
        if (r < 0)
                return r;
        w->head.complete = MANIFEST_COMPLETE;
        return write_at(w->fd, &w->head, sizeof(w->head), 0);
}

int manifest_open(struct manifest *m, int fd) {
        struct stat st;
        char *map;

        if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size < sizeof(*m->head))
                return -ENODATA;
        map = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return -errno;
        m->head = (const struct manifest_head *)map;
        m->directories = (const struct manifest_directory *)(map + offset_of(0));
        if (m->head->complete != MANIFEST_COMPLETE || m->head->n_directories > MANIFEST_DIRECTORIES_MAX + 128 ||
            (uint64_t)st.st_size < offset_of(m->head->n_directories))
                return -ENODATA;
        return 0;
}

const struct manifest_directory *manifest_find(const struct manifest *m, uint64_t path) {
        struct manifest_directory key = { .path = path };
        size_t n = m->head->n_directories;

        return n > 0 ? bsearch(&key, m->directories, n, sizeof(key), compare_paths) : NULL;
}
