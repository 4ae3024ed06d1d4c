/* SPDX-License-Identifier: MIT */
#include <sys/stat.h>

#include "check.h"
#include "pool/lease/spool.h"
#include "pool/util/blob.h"
#include "pool/util/io.h"
#include "pool/util/removal.h"

static struct check_dir dir;

static void make(const char *name, uint64_t size) {
        int fd = openat(dir.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        CHECK(fd >= 0 && ftruncate(fd, size) == 0);
        close(fd);
}

/* A file's size by its name; -1: there is none. */
static int64_t size_of(const char *name) {
        struct stat st;

        return fstatat(dir.fd, name, &st, 0) < 0 ? -1 : st.st_size;
}

/* A second name for a file, by which it is seen after it has lost the first. */
static void watch(const char *name) {
        CHECK_INT(linkat(dir.fd, name, dir.fd, "watched", 0), 0);
}

static void unwatch(void) {
        CHECK_INT(unlinkat(dir.fd, "watched", 0), 0);
        CHECK_INT(check_dir_entries(&dir), 0);
        CHECK(!removal_is_under_way());
}

static void small_ones_go_at_once(void) {
        make("small", REMOVAL_PIECE);
        removal_add(dir.fd, "small", REMOVAL_PIECE);
        CHECK_INT(check_dir_entries(&dir), 0);
        CHECK(!removal_is_under_way());
        removal_tick();
}

static void large_ones_go_in_pieces(void) {
        make("large", 3 * REMOVAL_PIECE + 1);
        make("next", 2 * REMOVAL_PIECE);
        watch("large");
        removal_add(dir.fd, "large", 3 * REMOVAL_PIECE + 1);
        removal_add(dir.fd, "gone", 2 * REMOVAL_PIECE); /* somebody took it away */
        removal_add(dir.fd, "next", 2 * REMOVAL_PIECE);
        CHECK_INT(size_of("large"), 3 * REMOVAL_PIECE + 1);
        for (int i = 2; i >= 0; i--) {
                removal_tick();
                CHECK_INT(size_of("large"), -1);
                CHECK_INT(size_of("watched"), i * REMOVAL_PIECE + 1);
        }
        removal_tick();
        CHECK_INT(size_of("watched"), 0);
        CHECK(removal_is_under_way());
        removal_tick(); /* that of "gone" */
        CHECK_INT(size_of("next"), 2 * REMOVAL_PIECE);
        removal_tick();
        CHECK_INT(size_of("next"), -1);
        CHECK(removal_is_under_way());
        removal_tick();
        unwatch();
}

static void who_has_it_open_keeps_the_bytes(void) {
        int reader;

        make("read", 2 * REMOVAL_PIECE);
        watch("read");
        reader = openat(dir.fd, "read", O_RDONLY | O_CLOEXEC);
        removal_add(dir.fd, "read", 2 * REMOVAL_PIECE);
        removal_tick();
        CHECK_INT(size_of("read"), -1);
        CHECK_INT(size_of("watched"), 2 * REMOVAL_PIECE);
        close(reader);
        unwatch();
}

static void forgotten(void) {
        make("a", 2 * REMOVAL_PIECE);
        make("b", 2 * REMOVAL_PIECE);
        removal_add(dir.fd, "a", 2 * REMOVAL_PIECE);
        removal_add(dir.fd, "b", 2 * REMOVAL_PIECE);
        removal_tick();
        removal_forget();
        CHECK(!removal_is_under_way());
        CHECK_INT(size_of("a"), -1);
        CHECK_INT(unlinkat(dir.fd, "b", 0), 0);
}

/* What jobs leave behind goes that way. */
static void spools_and_blobs(void) {
        static char data[1 << 20];
        struct spool *spool;
        struct blob blob;

        CHECK_INT(spool_new(&spool, dir.fd, REMOVAL_PIECE * 2, NULL), 0);
        spool_name(spool, "7.1");
        for (int i = 0; i < 20; i++)
                CHECK_INT(spool_append(spool, STREAM_STDOUT, data, sizeof(data)), 0);
        watch("7.1.stdout");
        spool_unref(spool);
        removal_tick();
        CHECK_INT(size_of("watched"), (20 << 20) - REMOVAL_PIECE);
        removal_tick();
        CHECK_INT(size_of("watched"), 0);
        unwatch();

        blob_init(&blob, dir.fd, REMOVAL_PIECE * 2);
        for (int i = 0; i < 20; i++)
                CHECK_INT(blob_append(&blob, data, sizeof(data)), 0);
        watch(blob.name);
        blob_deinit(&blob);
        removal_tick();
        CHECK_INT(size_of("watched"), (20 << 20) - REMOVAL_PIECE);
        removal_tick();
        CHECK_INT(size_of("watched"), 0);
        unwatch();
}

int main(void) {
        dir = check_dir_make();
        RUN(small_ones_go_at_once);
        RUN(large_ones_go_in_pieces);
        RUN(who_has_it_open_keeps_the_bytes);
        RUN(forgotten);
        RUN(spools_and_blobs);
        check_dir_remove(&dir);
        return check_done();
}
