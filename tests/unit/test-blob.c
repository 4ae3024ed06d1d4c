/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "pool/util/blob.h"

static struct check_dir dir;

static char pattern(uint64_t i) {
        return (char)(i * 7 + i / 256);
}

/* Add @len bytes of the pattern. */
static int grow(struct blob *b, size_t len) {
        char *data = malloc(len + 1);
        int r;

        for (size_t i = 0; i < len; i++)
                data[i] = pattern(b->size + i);
        r = blob_append(b, data, len);
        free(data);
        return r;
}

/* How many of the bytes that read() and blob_open() give are right, from the start. */
static uint64_t right_bytes(const struct blob *b, int fd) {
        uint64_t at = 0;
        char data[1000];
        ssize_t n;

        while ((n = fd >= 0 ? read(fd, data, sizeof(data)) : blob_read(b, at, data, sizeof(data))) > 0)
                for (ssize_t i = 0; i < n; i++)
                        if (data[i] != pattern(at++))
                                return at - 1;
        return n < 0 ? UINT64_MAX : at;
}

static void check_contents(const struct blob *b, uint64_t size) {
        int fd = blob_open(b), again = blob_open(b);

        CHECK(fd >= 0 && again >= 0);
        CHECK_INT(b->size, size);
        CHECK_INT(right_bytes(b, -1), size);
        CHECK_INT(right_bytes(b, fd), size);
        CHECK_INT(right_bytes(b, again), size); /* of its own position */
        CHECK_INT(fcntl(fd, F_GETFD), FD_CLOEXEC);
        close(fd);
        close(again);
}

static void empty(void) {
        struct blob b;
        char c;

        blob_init(&b, dir.fd, 100);
        CHECK_INT(blob_read(&b, 0, &c, 1), 0);
        CHECK_INT(blob_append(&b, "", 0), 0);
        check_contents(&b, 0);
        blob_deinit(&b);
}

/* The border is at 4096 bytes: so many stay in memory. */
static void border(void) {
        struct blob b;

        blob_init(&b, dir.fd, UINT64_C(1) << 40);
        CHECK_INT(grow(&b, 4095), 0);
        CHECK_INT(grow(&b, 1), 0);
        CHECK(!blob_is_file(&b));
        check_contents(&b, 4096);
        CHECK_INT(grow(&b, 1), 0);
        CHECK(blob_is_file(&b));
        CHECK(b.buf.data == NULL);
        check_contents(&b, 4097);
        CHECK_INT(grow(&b, 100000), 0);
        check_contents(&b, 104097);
        CHECK_INT(check_dir_entries(&dir), 1);
        blob_clear(&b);
        CHECK_INT(check_dir_entries(&dir), 0); /* the file goes with its bytes */
        CHECK(!blob_is_file(&b));
        check_contents(&b, 0);
        CHECK_INT(grow(&b, 4097), 0); /* at once */
        CHECK(blob_is_file(&b));
        check_contents(&b, 4097);
        blob_deinit(&b);
}

/* However many there are. */
static void no_descriptor_is_held(void) {
        struct check_dir fds = { .path = "/proc/self/fd" };
        unsigned before = check_dir_entries(&fds);
        struct blob b[20];

        for (int i = 0; i < 20; i++) {
                blob_init(&b[i], dir.fd, 10000);
                CHECK_INT(grow(&b[i], 5000), 0);
                CHECK_INT(grow(&b[i], 1000), 0);
                CHECK(blob_is_file(&b[i]));
        }
        CHECK_INT(check_dir_entries(&fds), before);
        for (int i = 0; i < 20; i++) {
                check_contents(&b[i], 6000);
                blob_deinit(&b[i]);
        }
        CHECK_INT(check_dir_entries(&fds), before);
        CHECK_INT(check_dir_entries(&dir), 0);
}

/* Bytes in a file are charged, those in memory are not. */
static void quota(void) {
        struct quota *q = NULL;
        struct quota_account *a;
        struct blob b, other;

        CHECK_INT(quota_new(&q, 10000, 0), 0);
        a = quota_open(q, 1);
        blob_init(&b, dir.fd, 100000);
        blob_init(&other, dir.fd, 100000);
        b.quota = other.quota = a;
        CHECK_INT(grow(&b, 4096), 0);
        CHECK_INT(quota_bytes(q), 0);
        CHECK_INT(grow(&b, 5905), -EDQUOT); /* with those that it has, that is one too many */
        CHECK_INT(quota_bytes(q), 0);
        CHECK_INT(check_dir_entries(&dir), 0);
        check_contents(&b, 4096);
        CHECK_INT(grow(&b, 5000), 0);
        CHECK_INT(quota_bytes(q), 9096);
        CHECK_INT(grow(&b, 905), -EDQUOT);
        CHECK_INT(grow(&b, 904), 0);
        CHECK_INT(grow(&b, 1), -EDQUOT);
        check_contents(&b, 10000);
        CHECK_INT(grow(&other, 4096), 0); /* no file */
        CHECK_INT(grow(&other, 1), -EDQUOT);
        blob_move(&other, &b);
        CHECK_INT(quota_bytes(q), 10000);
        other.kept = true;
        CHECK_INT(blob_rename(&other, "7.1.input"), 0);
        blob_deinit(&other);
        CHECK_INT(quota_bytes(q), 0);
        CHECK_INT(blob_restore(&b, "7.1.input"), 0);
        CHECK_INT(quota_bytes(q), 10000);
        blob_clear(&b);
        CHECK_INT(quota_bytes(q), 0);
        CHECK_INT(check_dir_entries(&dir), 0);
        quota_account_unref(a);
        quota_free(q);
}

/* A command of one user becomes the job of another. */
static void quota_moves(void) {
        struct quota *q = NULL;
        struct quota_account *a, *b;
        struct blob from, to;

        CHECK_INT(quota_new(&q, 0, 5000), 0);
        a = quota_open(q, 1);
        b = quota_open(q, 2);
        blob_init(&from, dir.fd, 10000);
        blob_init(&to, dir.fd, 10000);
        from.quota = a;
        to.quota = b;
        CHECK_INT(grow(&from, 4999), 0);
        blob_move(&to, &from);
        CHECK_INT(quota_room(a), 5000);
        CHECK_INT(quota_room(b), 1);
        blob_deinit(&to);
        blob_deinit(&from);
        CHECK_INT(quota_bytes(q), 0);
        quota_account_unref(a);
        quota_account_unref(b);
        quota_free(q);
}

/* Under a lasting name the next run finds it, when this one keeps it or is killed. */
static void names(void) {
        struct blob b, later;

        blob_init(&b, dir.fd, 10000);
        blob_init(&later, dir.fd, 10000);
        CHECK_INT(blob_rename(&b, "7.1.command"), 0); /* nothing to be renamed */
        CHECK_INT(grow(&b, 10), 0);
        CHECK(!blob_is_file(&b));
        CHECK_INT(blob_rename(&b, "7.1.command"), 0);
        CHECK_INT(check_dir_entries(&dir), 0);
        CHECK_INT(grow(&b, 5000), 0);
        CHECK(blob_is_file(&b));
        CHECK_INT(blob_rename(&b, "7.1.command"), 0);
        CHECK_INT(faccessat(dir.fd, "7.1.command", F_OK, 0), 0);
        check_contents(&b, 5010);
        b.kept = true;
        blob_deinit(&b);
        CHECK_INT(blob_restore(&later, "7.2.command"), -ENOENT);
        CHECK_INT(blob_restore(&later, "7.1.command"), 0);
        check_contents(&later, 5010);
        CHECK_INT(grow(&later, 5), 0);
        check_contents(&later, 5015);
        blob_deinit(&later);
        CHECK_INT(check_dir_entries(&dir), 0);
}

static void read_anywhere(void) {
        struct blob b;
        char data[10];

        for (size_t size = 100; size <= 10000; size *= 100) {
                blob_init(&b, dir.fd, 10000);
                CHECK_INT(grow(&b, size), 0);
                CHECK_INT(blob_read(&b, size - 3, data, 10), 3);
                CHECK(data[0] == pattern(size - 3) && data[2] == pattern(size - 1));
                CHECK_INT(blob_read(&b, size, data, 10), 0);
                CHECK_INT(blob_read(&b, UINT64_MAX, data, 10), 0);
                CHECK_INT(blob_read(&b, 50, data, 10), 10);
                CHECK(data[9] == pattern(59));
                blob_deinit(&b);
        }
}

static void maximum(void) {
        struct blob b;

        blob_init(&b, dir.fd, 5000);
        CHECK_INT(grow(&b, 5001), -EFBIG);
        CHECK(!blob_is_file(&b));
        CHECK_INT(grow(&b, 5000), 0);
        CHECK_INT(grow(&b, 1), -EFBIG);
        CHECK_INT(blob_append(&b, "", SIZE_MAX), -EFBIG);
        check_contents(&b, 5000);
        blob_deinit(&b);
}

static void move(void) {
        struct blob from, to;

        for (size_t size = 10; size <= 10000; size *= 1000) {
                blob_init(&from, dir.fd, 10000);
                blob_init(&to, dir.fd, 10000);
                CHECK_INT(blob_append(&to, "old", 3), 0);
                CHECK_INT(grow(&from, size), 0);
                blob_move(&to, &from);
                check_contents(&to, size);
                check_contents(&from, 0);
                CHECK_INT(grow(&from, 20), 0); /* usable still */
                check_contents(&from, 20);
                blob_deinit(&from);
                blob_deinit(&to);
        }
}

static void no_directory(void) {
        struct blob b;

        blob_init(&b, -1, 10000);
        CHECK_INT(grow(&b, 4096), 0);
        CHECK_INT(grow(&b, 1), -EBADF);
        check_contents(&b, 4096); /* unchanged on failure */
        blob_deinit(&b);
}

int main(void) {
        dir = check_dir_make();
        RUN(empty);
        RUN(border);
        RUN(no_descriptor_is_held);
        RUN(quota);
        RUN(quota_moves);
        RUN(names);
        RUN(read_anywhere);
        RUN(maximum);
        RUN(move);
        RUN(no_directory);
        check_dir_remove(&dir);
        return check_done();
}
