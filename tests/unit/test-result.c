/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "pool/util/result.h"
#include "pool/util/text.h"

static void set(void) {
        struct result r = {};

        CHECK(result_ok(&r));
        result_set(&r, RESULT_LOST, "%s is %d", "it", 7);
        CHECK(!result_ok(&r));
        CHECK_INT(r.code, RESULT_LOST);
        CHECK_STR(r.text, "it is 7");
        result_set(&r, RESULT_FAILED, "then %s", r.text); /* its own text as an argument */
        CHECK_STR(r.text, "then it is 7");
}

static void one_line(void) {
        struct result r;

        result_set(&r, RESULT_FAILED,
                   "a\nb\tc\x7f"
                   "d\x1b[1m\n\n");
        CHECK_STR(r.text, "a b c d [1m");
        result_set(&r, RESULT_FAILED, "gr\xc3\xbcn");
        CHECK_STR(r.text, "gr\xc3\xbcn");
        result_set(&r, RESULT_FAILED, "%s", " \n ");
        CHECK_STR(r.text, "");
}

/* It ends in JSON, which takes nothing but UTF-8. */
static void is_text(void) {
        struct result r;
        char full[RESULT_TEXT_MAX + 1] = "";

        result_set(&r, RESULT_FAILED,
                   "a\xff"
                   "b");
        CHECK_STR(r.text, "a?b");
        memset(full, 'x', RESULT_TEXT_MAX);
        memcpy(full + RESULT_TEXT_MAX - 2, "\xc3\xbc", 2); /* cut in the middle */
        result_set(&r, RESULT_FAILED, "%s", full);
        CHECK_INT(strlen(r.text), RESULT_TEXT_MAX - 1);
        CHECK(text_is_utf8(r.text, strlen(r.text)));
        CHECK(!strncmp(r.text, full, RESULT_TEXT_MAX - 2));
}

static void names(void) {
        CHECK_STR(result_code_name(RESULT_OK), "ok");
        CHECK_STR(result_code_name(RESULT_TIMEOUT), "timeout");
        CHECK_STR(result_code_name(RESULT_DENIED), "denied");
        CHECK_STR(result_code_name(RESULT_INVALID), "invalid");
        CHECK_STR(result_code_name(RESULT_LOST), "lost");
        CHECK_STR(result_code_name(RESULT_RELEASED), "released");
        CHECK_STR(result_code_name(RESULT_BUSY), "busy");
        CHECK_STR(result_code_name(RESULT_FAILED), "failed");
}

static void saved(void) {
        struct saved_result s = {};
        struct result r = result_saved(&s);

        CHECK(result_ok(&r));
        CHECK_STR(r.text, "");
        result_set(&r, RESULT_LOST, "the first");
        result_save(&s, &r);
        result_set(&r, RESULT_FAILED, "the second");
        result_save(&s, &r);
        r = result_saved(&s);
        CHECK_INT(r.code, RESULT_FAILED);
        CHECK_STR(r.text, "the second");
        result_drop(&s);
        r = result_saved(&s);
        CHECK(result_ok(&r));
}

int main(void) {
        RUN(set);
        RUN(one_line);
        RUN(is_text);
        RUN(names);
        RUN(saved);
        return check_done();
}
