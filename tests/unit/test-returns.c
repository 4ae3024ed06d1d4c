/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "pool/environment/returns.h"
#include "pool/util/text.h"

static struct returns returns;
static struct result advice;

static bool change(const char *path) {
        return returns_count(&returns, RETURN_CHANGED, path, &advice);
}

static bool come_back(enum environment_return how) {
        return returns_count(&returns, how, NULL, &advice);
}

static void begin(void) {
        returns_deinit(&returns);
        returns = (struct returns){};
        advice = (struct result){};
}

/* what a clean-up found */

static void paths(void) {
        struct sandbox_changes c = {};
        struct buf out = BUF_INIT(100);

        CHECK(!sandbox_changes_first(&c));
        sandbox_changes_add(&c, "/a b");
        sandbox_changes_add(&c, "/etc/\x1b[2J\n\xff");
        CHECK_STR(sandbox_changes_first(&c), "/a b");
        CHECK_INT(sandbox_changes_render(&c, &out), 0);
        CHECK_STR(buf_text(&out), "/a b /etc/ [2J ?");
        buf_deinit(&out);
}

/* The first is always there, if only its beginning. What does not fit is left out. */
static void many_paths(void) {
        struct sandbox_changes c = {};
        char path[5000];

        memset(path, 'x', sizeof(path) - 1);
        path[sizeof(path) - 1] = '\0';
        for (int i = 0; i < 100; i++)
                sandbox_changes_add(&c, path);
        CHECK_INT(strlen(sandbox_changes_first(&c)), SANDBOX_PATH_SIZE - 1);
        CHECK_INT(c.len, SANDBOX_CHANGES_SIZE / SANDBOX_PATH_SIZE * SANDBOX_PATH_SIZE);
        CHECK(c.text[c.len - 1] == '\0');
}

/* the advice */

static void said_once(void) {
        begin();
        for (int i = 0; i < 3; i++)
                CHECK(!change("/var/lib/x"));
        CHECK(!change("/etc/y"));
        for (int i = 0; i < 4; i++)
                CHECK(!come_back(RETURN_CLEAN)); /* half of them is not more than half */
        CHECK(change("/var/lib/x"));
        CHECK(!strncmp(advice.text, "5 of 9 leases ended their environment, 4 by a change of /var/lib/x; ", 68));
        for (int i = 0; i < 100; i++)
                CHECK(!change("/var/lib/x"));
        CHECK_INT(returns.n[RETURN_CHANGED], 105);
}

static void not_of_few(void) {
        begin();
        for (int i = 1; i < RETURNS_MIN; i++)
                CHECK(!change("/x"));
        CHECK(change("/x"));
}

/* What is not to be lent again says nothing about the leases. */
static void retired(void) {
        begin();
        for (int i = 0; i < 100; i++)
                CHECK(!come_back(RETURN_RETIRED));
        for (int i = 0; i < 10; i++)
                CHECK(!come_back(RETURN_CLEAN));
        CHECK_INT(returns.n[RETURN_RETIRED], 100);
}

static void other_causes(void) {
        begin();
        for (int i = 1; i < RETURNS_MIN; i++)
                CHECK(!come_back(RETURN_SINGLE_USE));
        CHECK(come_back(RETURN_SINGLE_USE));
        CHECK(strstr(advice.text, "8 because that was not noted before their first job"));
        begin();
        for (int i = 1; i < RETURNS_MIN; i++)
                CHECK(!come_back(RETURN_FAILED));
        CHECK(come_back(RETURN_FAILED));
        CHECK(strstr(advice.text, "8 because it could not be cleaned"));
}

/* However many others there are, the most frequent one is found. */
static void many_others(void) {
        char path[32];

        begin();
        returns.said = true;
        for (int i = 0; i < 1000; i++) {
                snprintf(path, sizeof(path), "/other/%d", i);
                change(path);
                if (i % 3 == 0)
                        change("/often");
        }
        returns.said = false;
        CHECK(change("/often"));
        CHECK(strstr(advice.text, "by a change of /often; "));
}

int main(void) {
        RUN(paths);
        RUN(many_paths);
        RUN(said_once);
        RUN(not_of_few);
        RUN(retired);
        RUN(other_causes);
        RUN(many_others);
        returns_deinit(&returns);
        return check_done();
}
