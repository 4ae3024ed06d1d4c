/* SPDX-License-Identifier: MIT */
#include "pool/environment/command.h"
#include "check.h"

#define ID "0b1e7a52-63c1-4f0a-9a3a-2f1f00000001"
#define MARK EXEC_MARK "=" ID

static struct command command;

static void init(const char *workdir, const char *cwd, const char *env) {
        CHECK_INT(command_init(&command, &(struct command_settings){
                                                 .id = ID, .shell = "", .workdir = workdir, .cwd = cwd, .pool_env = "", .env = env }),
                  0);
}

static void check_cwd(const char *workdir, const char *cwd, const char *expected) {
        init(workdir, cwd, "");
        CHECK_STR(command.spec.workdir, workdir);
        CHECK_STR(command.spec.cwd, expected);
        command_deinit(&command);
}

static void cwd(void) {
        check_cwd("/root/t1", "", "/root/t1");
        check_cwd("/root/t1", "sub/a b", "/root/t1/sub/a b");
        check_cwd("/root/t1", "..", "/root/t1/..");
        check_cwd("/root/t1", "/tmp", "/tmp");
        check_cwd("/root/t1", "/", "/");
        check_cwd("/", "", "/");
}

static const char *value_of(const char *name) {
        const char *value = NULL;
        size_t len = strlen(name);

        for (const char *const *one = command.spec.env; *one; one++)
                if (!strncmp(*one, name, len) && (*one)[len] == '=') {
                        CHECK(!value);
                        value = *one + len + 1;
                }
        return value;
}

static size_t count(void) {
        size_t n = 0;

        while (command.spec.env[n])
                n++;
        return n;
}

static void environment(void) {
        init("/w", "", "\n\nA=1\n\nAB=x\nA=2\nB==\nABC=\nAB=y\n\nA=3 \n");
        CHECK_INT(count(), 5);
        CHECK_STR(command.spec.env[0], "B==");
        CHECK_STR(command.spec.env[1], "ABC=");
        CHECK_STR(command.spec.env[2], "AB=y");
        CHECK_STR(command.spec.env[3], "A=3 ");
        CHECK_STR(command.spec.env[4], MARK);
        command_deinit(&command);

        init("/w", "", "");
        CHECK_INT(count(), 1);
        CHECK_STR(command.spec.env[0], MARK);
        command_deinit(&command);

        init("/w", "", "A=1");
        CHECK_INT(count(), 2);
        CHECK_STR(command.spec.env[0], "A=1");
        command_deinit(&command);
}

/* By it a job's processes are found. */
static void nobody_sets_the_mark(void) {
        init("/w", "", "A=1\n" EXEC_MARK "=other\n" EXEC_MARK "S=mine");
        CHECK_INT(count(), 3);
        CHECK_STR(value_of(EXEC_MARK), ID);
        CHECK_STR(value_of(EXEC_MARK "S"), "mine");
        command_deinit(&command);
}

/* One user's environment of many lines does not hold the loop up. */
static void many(void) {
        enum { LINES = 20000, NAMES = 5000 };
        static char text[LINES * 16];
        size_t len = 0;

        for (int i = 0; i < LINES; i++)
                len += sprintf(text + len, "V%d=%d\n", i * 7 % NAMES, i);
        init("/w", "", text);
        CHECK_INT(count(), NAMES + 1);
        CHECK_STR(value_of("V0"), "15000");
        CHECK_STR(value_of("V7"), "15001");
        command_deinit(&command);
}

int main(void) {
        RUN(cwd);
        RUN(environment);
        RUN(nobody_sets_the_mark);
        RUN(many);
        return check_done();
}
