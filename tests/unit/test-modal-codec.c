/* SPDX-License-Identifier: MIT */

/* Messages against the bytes that Modal's own modal_proto (PyPI modal 1.6.4) makes of them. */

#include <errno.h>
#include <string.h>

#include "pool/backend/modal/wire/codec.h"
#include "tests/unit/check.h"

static const char *const args[] = { "sh", "-c" };

static int pack_start(struct buf *out, const char *const *env) {
        return modal_pack_exec_start(out, "ta-1", "e", args, 2, env, MODAL_PIPE, MODAL_DEVNULL);
}

/* Variables travel as one SecretSource: Modal's SDKs send neither env (12) nor secret_ids (8). */
static void variables_are_secret_sources(void) {
        static const char *const one[] = { "A=1=2", NULL }, *const none[] = { NULL };
        static const char head[] = "\n\x04ta-1\x12\x01" "e\x1a\x02sh\x1a\x02-c \x01(\x00";
        static const char source[] = "j\x0c\x12\n\n\x08\n\x01" "A\x12\x03" "1=2";
        struct buf out = BUF_INIT(1000);

        CHECK_INT(pack_start(&out, one), 0);
        CHECK_INT(out.len, sizeof(head) - 1 + sizeof(source) - 1);
        CHECK(!memcmp(out.data, head, sizeof(head) - 1));
        CHECK(!memcmp(out.data + sizeof(head) - 1, source, sizeof(source) - 1));
        buf_clear(&out);
        CHECK_INT(pack_start(&out, none), 0);
        CHECK_INT(out.len, sizeof(head) - 1);
        buf_deinit(&out);
}

static void names_of_variables(void) {
        static const char *const bad[] = { "1A=x", "A B=x", "=x", "A", "A-B=x", "Ä=x" };
        struct buf out = BUF_INIT(1000);

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                CHECK_INT(pack_start(&out, (const char *const[]){ "_a1=x", bad[i], NULL }), -EINVAL);
                CHECK_INT(out.len, 0);
        }
        buf_deinit(&out);
}

static int end_of(const char *bytes, size_t len) {
        bool ended = false;
        int code = -1;

        CHECK_INT(modal_read_exec_wait(bytes, len, &ended, &code), 0);
        return ended ? code : -1;
}

#define NEGATIVE(low) "\x08" low "\xff\xff\xff\xff\xff\xff\xff\xff\x01"

static void codes_of_execs(void) {
        CHECK_INT(end_of("\x08\x00", 2), 0);
        CHECK_INT(end_of("\x08\x03", 2), 3);
        CHECK_INT(end_of("\x08\xff\x01", 3), 255);
        CHECK_INT(end_of("\x10\t", 2), 137);
        CHECK_INT(end_of("", 0), -1);
        CHECK_INT(end_of(NEGATIVE("\xfe"), 11), 130);  /* -2 */
        CHECK_INT(end_of(NEGATIVE("\xf1"), 11), 143);  /* -15 */
        CHECK_INT(end_of(NEGATIVE("\xc0"), 11), 192);  /* -64 */
        CHECK_INT(end_of(NEGATIVE("\xff"), 11), 137);  /* -1: Modal itself killed */
        CHECK_INT(end_of(NEGATIVE("\xbf"), 11), 137);  /* -65 */
        CHECK_INT(end_of("\x08\x80\x80\x80\x80\xf8\xff\xff\xff\xff\x01", 11), 137); /* the least there is */
}

int main(void) {
        RUN(variables_are_secret_sources);
        RUN(names_of_variables);
        RUN(codes_of_execs);
        return check_done();
}
