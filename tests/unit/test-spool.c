/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "check.h"
#include "pool/lease/spool.h"
#include "pool/util/clock.h"
#include "prng.h"

static struct check_dir dir;

static struct spool *make(uint64_t max) {
        struct spool *s = NULL;

        CHECK_INT(spool_new(&s, dir.fd, max, NULL), 0);
        spool_name(s, "7.1");
        return s;
}

/* What a view holds, read whole, as text. */
static const char *contents(struct spool *s, enum view view) {
        static char text[200];
        ssize_t n;

        spool_open(s);
        n = spool_read(s, view, 0, text, sizeof(text) - 1);
        spool_close(s);
        if (n < 0)
                return "(error)";
        text[n] = '\0';
        return text;
}

static void put(struct spool *s, enum stream stream, const char *text) {
        CHECK_INT(spool_append(s, stream, text, strlen(text)), 0);
}

static void nothing(void) {
        struct spool *s = make(100);
        char c;

        CHECK_INT(spool_size(s, VIEW_OUTPUT), 0);
        CHECK_STR(contents(s, VIEW_OUTPUT), "");
        CHECK_INT(spool_append(s, STREAM_STDOUT, "", 0), 0);
        CHECK_INT(spool_read(s, VIEW_OUTPUT, 0, &c, 1), -EBADF); /* outside open and close */
        spool_end(s);
        CHECK_STR(contents(s, VIEW_STDERR), "");
        CHECK_INT(check_dir_entries(&dir), 0); /* a job that prints nothing costs no file */
        spool_unref(s);
        spool_unref(NULL);
}

static void one_stream(void) {
        struct spool *s = make(100);

        put(s, STREAM_STDERR, "err");
        put(s, STREAM_STDERR, "or");
        CHECK_INT(check_dir_entries(&dir), 1); /* no order to keep */
        CHECK_STR(contents(s, VIEW_STDERR), "error");
        CHECK_STR(contents(s, VIEW_STDOUT), "");
        CHECK_STR(contents(s, VIEW_OUTPUT), "error");
        spool_unref(s);
        CHECK_INT(check_dir_entries(&dir), 0);
}

static void two_streams(void) {
        struct spool *s = make(100);

        put(s, STREAM_STDERR, "1");
        put(s, STREAM_STDOUT, "two");
        put(s, STREAM_STDOUT, "2");
        put(s, STREAM_STDERR, "three");
        put(s, STREAM_STDOUT, "4");
        CHECK_INT(check_dir_entries(&dir), 3);
        CHECK_STR(contents(s, VIEW_OUTPUT), "1two2three4");
        CHECK_STR(contents(s, VIEW_STDOUT), "two24");
        CHECK_STR(contents(s, VIEW_STDERR), "1three");
        spool_end(s);
        CHECK_STR(contents(s, VIEW_OUTPUT), "1two2three4");
        spool_unref(s);
        CHECK_INT(check_dir_entries(&dir), 0);
}

static void maximum(void) {
        struct spool *s = make(10);

        put(s, STREAM_STDOUT, "12345");
        put(s, STREAM_STDERR, "6789");
        CHECK_INT(spool_append(s, STREAM_STDOUT, "abc", 3), -EFBIG); /* as much as fits */
        CHECK_INT(spool_size(s, VIEW_OUTPUT), 10);
        CHECK_INT(spool_append(s, STREAM_STDERR, "x", 1), -EFBIG);
        CHECK_INT(spool_append(s, STREAM_STDERR, "", 0), 0);
        CHECK_STR(contents(s, VIEW_OUTPUT), "123456789a");
        spool_unref(s);

        s = make(5);
        put(s, STREAM_STDOUT, "12345"); /* exactly the maximum is fine */
        CHECK_INT(spool_append(s, STREAM_STDOUT, "6", 1), -EFBIG);
        CHECK_STR(contents(s, VIEW_STDOUT), "12345");
        spool_unref(s);
}

static unsigned open_descriptors(void) {
        struct check_dir fds = { .path = "/proc/self/fd" };

        return check_dir_entries(&fds);
}

static void descriptors(void) {
        unsigned before = open_descriptors();
        struct spool *s = make(100);

        put(s, STREAM_STDOUT, "a");
        put(s, STREAM_STDERR, "b");
        spool_open(s);
        spool_end(s);
        CHECK_INT(open_descriptors(), before + 3);
        spool_open(s);
        spool_close(s);
        CHECK_INT(open_descriptors(), before + 3); /* one reader is left */
        spool_close(s);
        CHECK_INT(open_descriptors(), before);
        spool_unref(spool_ref(s)); /* the files stay for the other reference */
        CHECK_INT(check_dir_entries(&dir), 3);
        CHECK_STR(contents(s, VIEW_OUTPUT), "ab");
        CHECK_INT(open_descriptors(), before);
        spool_unref(s);
        CHECK_INT(check_dir_entries(&dir), 0);
}

/* More spools than descriptors, all written and read in turn, in both streams and in their order. */
static void few_descriptors(void) {
        struct rlimit before, few = { .rlim_cur = open_descriptors() + 1 };
        struct spool *s[50], *last;
        int taken[100], n = 0;
        char name[16];

        CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
        few.rlim_max = before.rlim_max;
        for (int i = 0; i < 50; i++) {
                snprintf(name, sizeof(name), "9.%d", i);
                CHECK_INT(spool_new(&s[i], dir.fd, 100, NULL), 0);
                spool_name(s[i], name);
        }
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
        for (int round = 0; round < 3; round++)
                for (int i = 0; i < 50; i++) {
                        put(s[i], STREAM_STDOUT, "a");
                        put(s[i], STREAM_STDERR, "b");
                }
        for (int i = 0; i < 50; i++)
                CHECK_STR(contents(s[i], VIEW_OUTPUT), "ababab");
        /* Others have them all: the spare one is enough. */
        CHECK_INT(spool_new(&last, dir.fd, 100, NULL), 0);
        spool_name(last, "9.50");
        for (int i = 0; i < 50; i++)
                spool_unref(s[i]);
        while (n < 100 && (taken[n] = dup(dir.fd)) >= 0)
                n++;
        CHECK(n > 0 && n < 100);
        put(last, STREAM_STDERR, "still");
        put(last, STREAM_STDOUT, " there");
        CHECK_STR(contents(last, VIEW_OUTPUT), "still there");
        spool_unref(last);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
        while (n > 0)
                close(taken[--n]);
}

static void name_taken(void) {
        struct spool *a = make(100), *b = make(100);

        put(a, STREAM_STDOUT, "a");
        CHECK_INT(spool_append(b, STREAM_STDOUT, "b", 1), -EEXIST); /* never over another's file */
        CHECK_STR(contents(a, VIEW_STDOUT), "a");
        spool_unref(b);
        CHECK_INT(check_dir_entries(&dir), 1);
        spool_unref(a);
}

/* The disk is full, here by a limit, just as the order file gets its second record; then it is not. */
static void full_disk(void) {
        struct spool *s = make(1000);
        struct rlimit old, tight;

        put(s, STREAM_STDERR, "1");
        CHECK_INT(getrlimit(RLIMIT_FSIZE, &old), 0);
        tight = (struct rlimit){ 30, old.rlim_max };
        signal(SIGXFSZ, SIG_IGN);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &tight), 0);
        CHECK_INT(spool_append(s, STREAM_STDOUT, "2", 1), -EFBIG);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &old), 0);
        CHECK_STR(contents(s, VIEW_OUTPUT), "1");
        put(s, STREAM_STDOUT, "2");
        put(s, STREAM_STDERR, "3");
        CHECK_STR(contents(s, VIEW_OUTPUT), "123");
        CHECK_STR(contents(s, VIEW_STDOUT), "2");
        CHECK_STR(contents(s, VIEW_STDERR), "13");
        spool_unref(s);
}

/* random writes and reads against a model in memory */

#define MODEL_MAX 60000

struct model {
        char bytes[3][MODEL_MAX]; /* by view */
        uint64_t size[3];
};

static void model_append(struct model *m, enum stream stream, const char *data, size_t len) {
        memcpy(m->bytes[stream] + m->size[stream], data, len);
        m->size[stream] += len;
        memcpy(m->bytes[VIEW_OUTPUT] + m->size[VIEW_OUTPUT], data, len);
        m->size[VIEW_OUTPUT] += len;
}

static bool same(struct prng *p, struct spool *s, const struct model *m) {
        static char data[MODEL_MAX + 10];
        enum view view = prng_below(p, 3);
        uint64_t size = m->size[view], offset = prng_below(p, size + 3);
        size_t len = prng_scaled(p, MODEL_MAX), expected = offset < size ? size - offset : 0;
        ssize_t n = spool_read(s, view, offset, data, len);

        if (expected > len)
                expected = len;
        return spool_size(s, view) == size && n == (ssize_t)expected &&
               !memcmp(data, m->bytes[view] + offset, expected);
}

static bool run_seed(uint64_t seed) {
        static char data[MODEL_MAX];
        static struct model m;
        struct prng p = { seed };
        uint64_t max = prng_below(&p, MODEL_MAX) + 1;
        struct spool *s = make(max);
        bool good = true;

        m = (struct model){};
        spool_open(s);
        for (int i = 0; i < 300 && good; i++) {
                enum stream stream = prng_chance(&p, 100) ? STREAM_STDERR : STREAM_STDOUT;
                size_t len = prng_scaled(&p, seed % 2 ? 100 : 5000), fits = max - m.size[VIEW_OUTPUT];

                for (size_t k = 0; k < len; k++)
                        data[k] = (char)prng_next(&p);
                good = spool_append(s, stream, data, len) == (len > fits ? -EFBIG : 0);
                model_append(&m, stream, data, len < fits ? len : fits);
                for (int k = 0; k < 4; k++)
                        good = good && same(&p, s, &m);
        }
        spool_end(s);
        spool_close(s);
        spool_open(s);
        for (int k = 0; k < 20; k++)
                good = good && same(&p, s, &m);
        spool_close(s);
        spool_unref(s);
        return good && check_dir_entries(&dir) == 0;
}

static void random_interleaving(void) {
        for (uint64_t seed = 1; seed <= 100; seed++)
                if (!run_seed(seed)) {
                        printf("# seed %d\n", (int)seed);
                        CHECK(!"the spool differs from the model");
                        return;
                }
}

/* What kill -9 leaves: everything that was appended, and all goes on behind it. */
static struct spool *restart(struct spool *s, uint64_t max) {
        struct spool *later = NULL;

        spool_keep(s);
        spool_unref(s);
        CHECK_INT(spool_restore(&later, dir.fd, "7.1", max, NULL), 0);
        return later;
}

static void restored(void) {
        struct spool *s = restart(make(100), 100);
        int64_t written;

        CHECK_INT(spool_size(s, VIEW_OUTPUT), 0); /* it had no file yet */
        CHECK_INT(spool_written_wall_us(s, VIEW_OUTPUT), 0);
        put(s, STREAM_STDERR, "one ");
        written = spool_written_wall_us(s, VIEW_STDERR);
        CHECK(written > 0);
        s = restart(s, 100);
        CHECK(llabs(spool_written_wall_us(s, VIEW_STDERR) - written) < USEC_PER_SEC); /* as exact as the file system */
        CHECK_INT(spool_written_wall_us(s, VIEW_STDOUT), 0);
        CHECK_INT(spool_written_wall_us(s, VIEW_OUTPUT), spool_written_wall_us(s, VIEW_STDERR));
        CHECK_STR(contents(s, VIEW_OUTPUT), "one ");
        put(s, STREAM_STDOUT, "two ");
        s = restart(s, 100);
        put(s, STREAM_STDOUT, "three ");
        put(s, STREAM_STDERR, "four ");
        s = restart(s, 5); /* the maximum was lowered meanwhile */
        CHECK_STR(contents(s, VIEW_OUTPUT), "one two three four ");
        CHECK_STR(contents(s, VIEW_STDOUT), "two three ");
        CHECK_STR(contents(s, VIEW_STDERR), "one four ");
        CHECK_INT(spool_append(s, STREAM_STDOUT, "x", 1), -EFBIG);
        spool_end(s);
        spool_unref(s);
        CHECK_INT(check_dir_entries(&dir), 0);
}

/* All its files count: what fits is kept, and the files that an earlier run left are counted again. */
static void quota(void) {
        struct quota *q = NULL;
        struct quota_account *a;
        struct spool *s;

        CHECK_INT(quota_new(&q, 0, 100), 0);
        a = quota_open(q, 1);
        CHECK_INT(spool_new(&s, dir.fd, 1000, a), 0);
        spool_name(s, "7.1");
        put(s, STREAM_STDOUT, "0123456789");
        CHECK_INT(quota_bytes(q), 10);
        put(s, STREAM_STDERR, "abcde"); /* the first two records of the order are 24 bytes each */
        CHECK_INT(quota_bytes(q), 63);
        CHECK_INT(spool_append(s, STREAM_STDOUT, "0123456789 and more", 19), -EDQUOT);
        CHECK_INT(quota_bytes(q), 100);
        CHECK_STR(contents(s, VIEW_OUTPUT), "0123456789abcde0123456789 an");
        CHECK_INT(spool_append(s, STREAM_STDOUT, "x", 1), -EDQUOT);
        CHECK_INT(spool_append(s, STREAM_STDERR, "x", 1), -EDQUOT); /* there is not even room for a record */
        CHECK_STR(contents(s, VIEW_OUTPUT), "0123456789abcde0123456789 an");
        spool_keep(s);
        spool_unref(s);
        CHECK_INT(quota_bytes(q), 0);

        CHECK_INT(spool_restore(&s, dir.fd, "7.1", 1000, a), 0);
        CHECK_INT(quota_bytes(q), 100);
        CHECK_INT(spool_append(s, STREAM_STDOUT, "x", 1), -EDQUOT);
        spool_unref(s);
        CHECK_INT(quota_bytes(q), 0);
        CHECK_INT(check_dir_entries(&dir), 0);

        CHECK_INT(spool_new(&s, dir.fd, 5, a), 0);
        spool_name(s, "7.2");
        CHECK_INT(spool_append(s, STREAM_STDOUT, "123456", 6), -EFBIG);
        CHECK_INT(quota_bytes(q), 5);
        spool_unref(s);
        quota_account_unref(a);
        quota_free(q);
}

/* Killed between the order's record and its bytes, or in the middle of the record. */
static void half_a_turn(void) {
        struct spool *s = make(100);
        int fd;

        put(s, STREAM_STDOUT, "out ");
        put(s, STREAM_STDERR, "err ");
        spool_keep(s);
        spool_unref(s);
        fd = openat(dir.fd, "7.1.stderr", O_RDWR);
        CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
        close(fd);
        fd = openat(dir.fd, "7.1.order", O_RDWR | O_APPEND);
        CHECK(fd >= 0 && write(fd, "half a record", 13) == 13);
        close(fd);
        CHECK_INT(spool_restore(&s, dir.fd, "7.1", 100, NULL), 0);
        CHECK_STR(contents(s, VIEW_OUTPUT), "out ");
        put(s, STREAM_STDOUT, "more ");
        put(s, STREAM_STDERR, "late ");
        put(s, STREAM_STDOUT, "end");
        s = restart(s, 100);
        CHECK_STR(contents(s, VIEW_OUTPUT), "out more late end");
        spool_end(s);
        spool_unref(s);
        CHECK_INT(check_dir_entries(&dir), 0);
}

/* Writes a file anew. NULL: it goes. */
static void write_file(const char *name, const void *data, size_t len) {
        int fd;

        unlinkat(dir.fd, name, 0);
        if (!data)
                return;
        fd = openat(dir.fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len);
        close(fd);
}

/*
 * The machine was cut off: each file may lack its end, or have zeros there. "aa11bb22" was written, letters to stdout.
 * What there is of each stream is shown, all of it, in its order as far as that is known; and more goes behind it.
 */
static void cut_off(void) {
        const uint64_t order[] = { 0, 0, 0, 2, 0, 1, 2, 2, 0, 4, 2, 1 }, garbage[] = { 7, 7, 7 };
        uint64_t zeros[15] = { 0 };
        const struct {
                const char *out, *err;
                const void *order;
                size_t order_len;
                const char *shown;
        } cases[] = {
                { "aabb", "1122", order, sizeof(order), "aa11bb22" },
                { "aabb", "112", order, sizeof(order), "aa11bb2" },
                { "aab", "1122", order, sizeof(order), "aa11b22" },
                { "a", "1122", order, sizeof(order), "a1122" },
                { NULL, "1122", order, sizeof(order), "1122" },
                { "aabb", "1", order, sizeof(order), "aa1bb" },
                { "aabb", NULL, order, sizeof(order), "aabb" },
                { "aabb", "1122", order, 80, "aa11bb22" },
                { "aabb", "1122", order, 50, "aa1122bb" },
                { "aabb", "1122", order, 24, "aabb1122" },
                { "aabb", "1122", NULL, 0, "aabb1122" },
                { "aabb", "1122", garbage, sizeof(garbage), "aabb1122" },
                { "aabb", "1122", zeros, sizeof(zeros), "aa1122bb" }, /* two turns, then zeros */
                { NULL, "1122", NULL, 0, "1122" },
                { NULL, NULL, order, sizeof(order), "" },
        };

        memcpy(zeros, order, 48);
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct spool *s = NULL;
                char more[32];

                write_file("7.1.stdout", cases[i].out, cases[i].out ? strlen(cases[i].out) : 0);
                write_file("7.1.stderr", cases[i].err, cases[i].err ? strlen(cases[i].err) : 0);
                write_file("7.1.order", cases[i].order, cases[i].order_len);
                CHECK_INT(spool_restore(&s, dir.fd, "7.1", 100, NULL), 0);
                CHECK_STR(contents(s, VIEW_OUTPUT), cases[i].shown);
                CHECK_STR(contents(s, VIEW_STDOUT), cases[i].out ?: "");
                put(s, STREAM_STDERR, "33");
                put(s, STREAM_STDOUT, "cc");
                s = restart(s, 100);
                snprintf(more, sizeof(more), "%s33cc", cases[i].shown);
                CHECK_STR(contents(s, VIEW_OUTPUT), more);
                spool_end(s);
                spool_unref(s);
                CHECK_INT(check_dir_entries(&dir), 0);
        }
}

int main(void) {
        dir = check_dir_make();
        RUN(nothing);
        RUN(one_stream);
        RUN(two_streams);
        RUN(maximum);
        RUN(descriptors);
        RUN(name_taken);
        RUN(few_descriptors);
        RUN(full_disk);
        RUN(random_interleaving);
        RUN(restored);
        RUN(half_a_turn);
        RUN(cut_off);
        RUN(quota);
        check_dir_remove(&dir);
        return check_done();
}
