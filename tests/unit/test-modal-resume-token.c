/* SPDX-License-Identifier: MIT */

/* What a later run needs of a sandbox, made and read; and a job's input, which it reads again. */

#include <errno.h>
#include <fcntl.h>

#include "pool/backend/backend.h"
#include "pool/backend/modal/exec/stdin.h"
#include "pool/backend/modal/limits.h"
#include "pool/backend/modal/sandbox/resume-token.h"
#include "tests/unit/check.h"

static const struct modal_resume_token sound = {
        .id = "sb-1",
        .task_id = "ta-2",
        .sandbox_token = "eyJ.e30.-_=",
        .kept = "1:77 12:345 ",
        .began_wall_us = INT64_C(1700000000123456),
        .lifetime_secs = 3600,
};

static void round_trip(void) {
        struct modal_resume_token t = {};
        char *text = NULL;

        CHECK_INT(modal_resume_token_make(&sound, &text), 0);
        CHECK_STR(text, "2 sb-1 ta-2 1700000000123456 3600 eyJ.e30.-_= 1:77 12:345 ");
        CHECK_INT(modal_resume_token_read(text, &t), 0);
        CHECK_STR(t.id, sound.id);
        CHECK_STR(t.task_id, sound.task_id);
        CHECK_STR(t.sandbox_token, sound.sandbox_token);
        CHECK_STR(t.kept, sound.kept);
        CHECK_INT(t.began_wall_us, sound.began_wall_us);
        CHECK_INT(t.lifetime_secs, sound.lifetime_secs);
        free(text);
}

static void without_a_sandbox_token(void) {
        struct modal_resume_token t = sound;
        char *text = NULL, old[] = "1 sb-1 ta-2 5 6 1:77 ";

        t.sandbox_token = "";
        CHECK_INT(modal_resume_token_make(&t, &text), 0);
        CHECK_STR(text, "2 sb-1 ta-2 1700000000123456 3600 - 1:77 12:345 ");
        CHECK_INT(modal_resume_token_read(text, &t), 0);
        CHECK_STR(t.sandbox_token, "");
        CHECK_STR(t.kept, sound.kept);
        free(text);
        /* Version 1 had none. */
        CHECK_INT(modal_resume_token_read(old, &t), 0);
        CHECK_STR(t.sandbox_token, "");
        CHECK_STR(t.kept, "1:77 ");
        CHECK_INT(t.lifetime_secs, 6);
}

static void the_longest(void) {
        static char kept[PROBE_SIZE_MAX + 2], id[SANDBOX_ID_MAX + 1], token[SANDBOX_TOKEN_MAX + 2];
        struct modal_resume_token t = sound, got;
        char *text = NULL;

        memset(kept, '1', PROBE_SIZE_MAX);
        memset(id, 'x', SANDBOX_ID_MAX - 1);
        memset(token, 'x', SANDBOX_TOKEN_MAX);
        t.kept = kept;
        t.sandbox_token = token;
        t.id = t.task_id = id;
        t.began_wall_us = INT64_MAX;
        t.lifetime_secs = MODAL_LIFETIME_MAX;
        CHECK_INT(modal_resume_token_make(&t, &text), 0);
        CHECK(text && strlen(text) < SANDBOX_RESUME_TOKEN_MAX);
        CHECK_INT(modal_resume_token_read(text, &got), 0);
        CHECK_STR(got.kept, kept);
        CHECK_STR(got.sandbox_token, token);
        free(text);
        kept[PROBE_SIZE_MAX] = '1';
        CHECK_INT(modal_resume_token_make(&t, &text), -EINVAL);
        kept[PROBE_SIZE_MAX] = '\0';
        id[SANDBOX_ID_MAX - 1] = 'x';
        CHECK_INT(modal_resume_token_make(&t, &text), -EINVAL);
        id[SANDBOX_ID_MAX - 1] = '\0';
        token[SANDBOX_TOKEN_MAX] = 'x';
        CHECK_INT(modal_resume_token_make(&t, &text), -EINVAL);
        strcpy(token, "two words");
        CHECK_INT(modal_resume_token_make(&t, &text), -EINVAL);
}

static void refused(void) {
        static const char *const texts[] = {
                "", "1", " ", "1 sb-1", "1 sb-1 ta-2", "1 sb-1 ta-2 5", "1 sb-1 ta-2 5 0 ", "1 sb-1 ta-2 0 5 ",
                "2 sb-1 ta-2 5 5", "2 sb-1 ta-2 5 5 ", "2 sb-1 ta-2 5 5 t\x7f 1:2", "3 sb-1 ta-2 5 5 - ", "1  ta-2 5 5 ", "1 sb-1  5 5 ", "1 sb/1 ta-2 5 5 ", "1 sb-1 ta\n2 5 5 ",
                "1 sb-1 ta-2 -5 5 ", "1 sb-1 ta-2 5x 5 ", "1 sb-1 ta-2 9223372036854775808 5 ",
                "1 sb-1 ta-2 5 86401 ", "1 sb-1 ta-2 5 4294967301 ", "1 sb-1 ta-2 5 5 $(rm)", "1 sb-1 ta-2 5 5 1:2\n",
        };
        struct modal_resume_token t;

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                char text[128];

                strcpy(text, texts[i]);
                if (modal_resume_token_read(text, &t) != -EINVAL) {
                        printf("# \"%s\" was read\n", texts[i]);
                        CHECK(false);
                }
        }
}

static int pipe_with(const char *text) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0 || write(fds[1], text, strlen(text)) != (ssize_t)strlen(text))
                exit(99);
        close(fds[1]);
        return fds[0];
}

static struct modal_stdin make_stdin(void) {
        struct modal_stdin f = MODAL_STDIN_INIT(16);

        CHECK_INT(buf_append(&f.head, "head,", 5), 0);
        f.fds[0] = pipe_with("first,");
        f.fds[1] = pipe_with("second");
        f.lens[0] = f.lens[1] = 6;
        return f;
}

/* Whatever was read before, and however much fits: the rest, each byte once. */
static void stdin_from_everywhere(void) {
        const char all[] = "head,first,second";

        for (size_t from = 0; from <= sizeof(all) + 1; from++)
                for (size_t room = 1; room <= sizeof(all); room++) {
                        struct modal_stdin f = make_stdin();
                        struct buf piece = BUF_INIT(room), got = BUF_INIT(64);

                        CHECK_INT(modal_stdin_skip(&f, from), 0);
                        while (!modal_stdin_is_over(&f)) {
                                buf_clear(&piece);
                                CHECK_INT(modal_stdin_read(&f, &piece), 0);
                                CHECK(piece.len == room || modal_stdin_is_over(&f));
                                CHECK_INT(buf_append(&got, piece.data, piece.len), 0);
                        }
                        CHECK_STR(buf_text(&got), from < sizeof(all) ? all + from : "");
                        modal_stdin_deinit(&f);
                        buf_deinit(&piece);
                        buf_deinit(&got);
                }
}

static void stdin_that_is_short(void) {
        struct modal_stdin f = make_stdin();
        struct buf got = BUF_INIT(64);

        f.lens[1] = 7;
        CHECK_INT(modal_stdin_read(&f, &got), -EIO);
        modal_stdin_deinit(&f);
        buf_deinit(&got);
}

int main(void) {
        RUN(round_trip);
        RUN(without_a_sandbox_token);
        RUN(the_longest);
        RUN(refused);
        RUN(stdin_from_everywhere);
        RUN(stdin_that_is_short);
        return check_done();
}
