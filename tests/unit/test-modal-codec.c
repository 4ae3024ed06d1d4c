/* SPDX-License-Identifier: MIT */

/* Messages against the bytes that Modal's own modal_proto (PyPI modal 1.6.4) makes of them, and what they mean. */

#include <errno.h>
#include <string.h>

#include "pool/backend/modal/ends.h"
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

/* How it ended, in words. */
static const char *explain(int status, int exit_code, const char *text) {
        static char out[MODAL_RESULT_TEXT_MAX];
        struct modal_result result = { .status = status, .exit_code = exit_code };

        snprintf(result.text, sizeof(result.text), "%s", text);
        modal_result_explain(&result, out);
        return out;
}

static void results(void) {
        static const char *const names[] = {
                "unspecified", "success", "failure", "terminated", "timeout", "init_failure", "internal_failure",
                "idle_timeout", "memory_manager_eviction", "memory_thrashing_eviction", "kernel_oom_kill",
        };
        struct modal_result result;

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                CHECK_STR(modal_result_name(i), names[i]);
                CHECK(strstr(explain(i, 0, ""), names[i]) != NULL);
        }
        CHECK_STR(modal_result_name(11), "unknown");
        CHECK_STR(modal_result_name(-1), "unknown");
        CHECK_STR(explain(10, 137, "said"), "out of memory: the kernel killed it (kernel_oom_kill, exit code 137): said");
        CHECK_STR(explain(9, 0, ""), "out of memory: Modal evicted it, as its memory thrashed (memory_thrashing_eviction)");
        CHECK_STR(explain(2, -15, ""), "it failed (failure, exit code -15)");
        CHECK_STR(explain(-7, 0, ""), "for a reason that is not known here (unknown status -7)");
        CHECK_INT(modal_read_wait("\n\x10\x08\n\x12\x01x\x18\xf1\xff\xff\xff\xff\xff\xff\xff\xff\x01", 18, &result), 0);
        CHECK_INT(result.status, MODAL_RESULT_KERNEL_OOM_KILL);
        CHECK_INT(result.exit_code, -15);
        CHECK_STR(result.text, "x");
}

static void take_end(void *data, const struct backend_ends *e) {
        struct buf *out = data;

        CHECK_INT(buf_printf(out, "%s %d %d\n", e->cause, e->exit_code, (int)e->n), 0);
}

static void ends_are_bounded(void) {
        struct buf out = BUF_INIT(10000);
        struct modal_ends ends = {};

        modal_ends_add(&ends, "failure", 3);
        modal_ends_add(&ends, "timeout", 3);
        modal_ends_add(&ends, "failure", 3);
        modal_ends_each(&ends, take_end, &out);
        CHECK_STR(buf_text(&out), "failure 3 2\ntimeout 3 1\n");
        for (int i = 0; i < 2 * END_COUNTS_MAX; i++)
                modal_ends_add(&ends, "success", i);
        buf_clear(&out);
        modal_ends_each(&ends, take_end, &out);
        CHECK(strstr(buf_text(&out), "\nsuccess 60 1\nother 0 67\n"));
        buf_deinit(&out);
}

int main(void) {
        RUN(variables_are_secret_sources);
        RUN(names_of_variables);
        RUN(codes_of_execs);
        RUN(results);
        RUN(ends_are_bounded);
        return check_done();
}
