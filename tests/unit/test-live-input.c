/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "pool/lease/limits.h"
#include "pool/lease/live-input.h"

#define LONG (LIVE_INPUT_MAX + 1)

static struct check_dir dir;

static char pattern(uint64_t i) {
        return (char)(i * 7 + i / 256);
}

/* Bytes of the pattern, behind those that there are. */
static ssize_t put(struct live_input *i, size_t len) {
        static char data[LONG];

        for (size_t n = 0; n < len; n++)
                data[n] = pattern(i->size + n);
        return live_input_write(i, data, len);
}

static bool is_right(const struct live_input *i, uint64_t from, size_t len) {
        static char data[LONG];

        if (!live_input_read(i, from, data, len))
                return false;
        for (size_t n = 0; n < len; n++)
                if (data[n] != pattern(from + n))
                        return false;
        return true;
}

static struct live_input *make(void) {
        struct live_input *i = NULL;
        struct blob first;

        blob_init(&first, dir.fd, LONG);
        CHECK_INT(live_input_new(&i, dir.fd, "one", NULL, &first), 0);
        return i;
}

/* It goes round several times, in pieces of every kind; what is left stands there, also for a later run. */
static void goes_round(void) {
        struct live_input *i = make();
        uint64_t step = 1;

        while (i->size < 5 * LIVE_INPUT_MAX && !check_failed_now) {
                step = step * 5 % 299993;
                CHECK(put(i, step) > 0);
                CHECK(is_right(i, i->taken, i->size - i->taken));
                if (i->size - i->taken > LIVE_INPUT_MAX / 2)
                        live_input_take(i, i->taken + step % (i->size - i->taken), false);
        }
        live_input_take(i, i->size + 1, false); /* more than was written */
        CHECK(i->taken < i->size);
        live_input_free(i);
        CHECK_INT(check_dir_entries(&dir), 0);
}

static void room(void) {
        struct live_input *i = make();

        CHECK_INT(put(i, LIVE_INPUT_MAX - 100), LIVE_INPUT_MAX - 100);
        CHECK(!live_input_is_writable(i));
        CHECK_INT(put(i, 101), -EAGAIN); /* few bytes are written all or none */
        CHECK_INT(put(i, PIPE_BUF + 1), -EAGAIN);
        CHECK_INT(put(i, 100), 100);
        live_input_take(i, PIPE_BUF - 1, false);
        CHECK(!live_input_is_writable(i));
        CHECK_INT(put(i, 100000), -EAGAIN);
        live_input_take(i, PIPE_BUF, false);
        CHECK(live_input_is_writable(i));
        CHECK_INT(put(i, 100000), PIPE_BUF);
        CHECK(is_right(i, PIPE_BUF, LIVE_INPUT_MAX));
        i->ended = true;
        CHECK(live_input_is_writable(i)); /* so that one learns of it */
        CHECK_INT(put(i, 1), -EPIPE);
        live_input_free(i);

        i = make();
        live_input_take(i, 0, true);
        CHECK_INT(put(i, 1), -EPIPE);
        CHECK_INT(check_dir_entries(&dir), 1); /* a later run finds it as it is */
        live_input_close(i);
        CHECK_INT(check_dir_entries(&dir), 0);
        live_input_free(i);
}

static void what_was_written_before(void) {
        static char data[LONG];
        struct live_input *i = NULL;
        struct blob first;

        blob_init(&first, dir.fd, LONG);
        for (size_t n = 0; n < LONG; n++)
                data[n] = pattern(n);
        CHECK_INT(blob_append(&first, data, LIVE_INPUT_MAX), 0);
        CHECK_INT(live_input_new(&i, dir.fd, "one", NULL, &first), 0);
        CHECK_INT(i->size, LIVE_INPUT_MAX);
        CHECK(is_right(i, 0, LIVE_INPUT_MAX));
        live_input_free(i);
        CHECK_INT(blob_append(&first, data, 1), 0);
        CHECK_INT(live_input_new(&i, dir.fd, "one", NULL, &first), -EFBIG);
        blob_deinit(&first);
        CHECK_INT(check_dir_entries(&dir), 0);
}

static void a_later_run(void) {
        struct live_input *i = make(), *again = NULL;

        CHECK_INT(put(i, LIVE_INPUT_MAX), LIVE_INPUT_MAX);
        live_input_take(i, 300000, false);
        CHECK_INT(put(i, 200000), 200000);
        i->kept = true;
        live_input_free(i);
        CHECK_INT(live_input_restore(&again, dir.fd, "one", NULL, false), 0);
        CHECK_INT(again->size, LIVE_INPUT_MAX + 200000);
        CHECK_INT(put(again, 1), -EAGAIN); /* nothing is known of what was taken */
        live_input_take(again, 300000, false);
        CHECK(is_right(again, 300000, LIVE_INPUT_MAX - 100000));
        CHECK_INT(put(again, 100000), 100000);
        CHECK(is_right(again, 300000, LIVE_INPUT_MAX));
        live_input_free(again);
        CHECK_INT(live_input_restore(&again, dir.fd, "one", NULL, false), -ENOENT);
        CHECK_INT(check_dir_entries(&dir), 0);
}

/* It takes its room at once, and gives it back when its job has ended. */
static void quota(void) {
        struct live_input *i, *other = NULL;
        struct quota_account *account;
        struct quota *all = NULL;
        struct blob first;

        CHECK_INT(quota_new(&all, 3 * LIVE_INPUT_MAX / 2, 0), 0);
        account = quota_open(all, 1000);
        blob_init(&first, dir.fd, LONG);
        CHECK_INT(live_input_new(&i, dir.fd, "one", account, &first), 0);
        CHECK(quota_bytes(all) >= LIVE_INPUT_MAX);
        CHECK_INT(live_input_new(&other, dir.fd, "two", account, &first), -EDQUOT);
        live_input_close(i);
        CHECK_INT(quota_bytes(all), 0);
        live_input_free(i);
        CHECK_INT(quota_bytes(all), 0);
        quota_account_unref(account);
        quota_free(all);
}

int main(void) {
        dir = check_dir_make();
        RUN(goes_round);
        RUN(room);
        RUN(what_was_written_before);
        RUN(a_later_run);
        RUN(quota);
        check_dir_remove(&dir);
        return check_done();
}
