/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "pool/util/buf.h"

static void empty(void) {
        struct buf b = BUF_INIT(10);

        CHECK_STR(buf_text(&b), "");
        CHECK_INT(b.len, 0);
        CHECK_INT(buf_append(&b, NULL, 0), 0);
        CHECK_STR(buf_text(&b), "");
        buf_deinit(&b);
        CHECK(b.data == NULL);
        CHECK_INT(b.max, 10);
}

static void append(void) {
        struct buf b = BUF_INIT(1000);

        for (int i = 0; i < 100; i++)
                CHECK_INT(buf_append(&b, "0123456789", 10), 0);
        CHECK_INT(b.len, 1000);
        CHECK_INT(strlen(b.data), 1000);
        CHECK(!memcmp(b.data + 990, "0123456789", 11));
        buf_clear(&b);
        CHECK_STR(buf_text(&b), "");
        CHECK_INT(buf_append(&b, "a\0b", 3), 0);
        CHECK_INT(b.len, 3);
        CHECK(!memcmp(b.data, "a\0b", 4));
        buf_deinit(&b);
}

static void maximum(void) {
        struct buf b = BUF_INIT(5);

        CHECK_INT(buf_append(&b, "12345", 5), 0);
        CHECK_INT(buf_append(&b, "6", 1), -EFBIG);
        CHECK_INT(buf_append(&b, "", 0), 0);
        CHECK_STR(buf_text(&b), "12345");
        buf_clear(&b);
        CHECK_INT(buf_append(&b, "123456", 6), -EFBIG);
        CHECK_STR(buf_text(&b), "");
        CHECK_INT(buf_append(&b, "x", SIZE_MAX), -EFBIG);
        buf_deinit(&b);
        CHECK_INT(buf_append(&b, "12345", 5), 0); /* usable again, with the same maximum */
        CHECK_INT(buf_append(&b, "6", 1), -EFBIG);
        buf_deinit(&b);
}

static void print(void) {
        struct buf b = BUF_INIT(12);

        CHECK_INT(buf_printf(&b, "%s-%d", "abc", 42), 0);
        CHECK_INT(buf_printf(&b, "%s", ""), 0);
        CHECK_INT(buf_printf(&b, "|%05d", 7), 0);
        CHECK_STR(buf_text(&b), "abc-42|00007");
        CHECK_INT(buf_printf(&b, "%c", 'x'), -EFBIG);
        CHECK_STR(buf_text(&b), "abc-42|00007");
        CHECK_INT(b.len, 12);
        buf_deinit(&b);
}

int main(void) {
        RUN(empty);
        RUN(append);
        RUN(maximum);
        RUN(print);
        return check_done();
}
