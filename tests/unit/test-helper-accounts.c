/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "pool/helper/agent/accounts.h"

#define PASSWD                                                     \
        "root:x:0:0:root:/root:/bin/bash\n"                        \
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" \
        "\n"                                                       \
        "# a comment\n"                                            \
        "short:x:5:5\n"                                            \
        "long:x:6:6:a:/b:/c:more\n"                                \
        "word:x:six:6::/w:/c\n"                                    \
        "huge:x:4294967296:6::/w:/c\n"                             \
        "none:x:4294967295:6::/w:/c\n"                             \
        "minus:x:-1:6::/w:/c\n"                                    \
        ":x:7:7::/w:/c\n"                                          \
        "123:x:8:9::/numeric:/c\n"                                 \
        "relative:x:10:11::here:/c\n"                              \
        "last:x:4294967294:12::/last:/c"
#define GROUP                       \
        "root:x:0:\n"               \
        "wheel:x:10:root,nobody\n"  \
        "own:x:65534:nobody\n"      \
        "part:x:11:nobod,nobodyy\n" \
        "only:x:12:nobody\n"        \
        "bad:x:z:nobody\n"          \
        "short:x\n"                 \
        "end:x:13:a,b,nobody"

static struct account a;

static int find(const char *user) {
        return account_find(&a, user, PASSWD, strlen(PASSWD));
}

static void by_name(void) {
        CHECK_INT(find("root"), 0);
        CHECK_INT(a.uid, 0);
        CHECK_STR(a.home, "/root");
        CHECK_INT(find("nobody"), 0);
        CHECK_INT(a.uid, 65534);
        CHECK_INT(a.gid, 65534);
        CHECK_STR(a.name, "nobody");
        CHECK_INT(find("last"), 0);
        CHECK_INT(a.uid, 4294967294);
        CHECK_STR(a.home, "/last");
        CHECK_INT(find("relative"), 0);
        CHECK_STR(a.home, "/");
}

static void by_number(void) {
        CHECK_INT(find("65534"), 0);
        CHECK_STR(a.name, "nobody");
        CHECK_INT(find("4242"), 0);
        CHECK_INT(a.uid, 4242);
        CHECK_INT(a.gid, 0);
        CHECK_STR(a.name, "");
        CHECK_STR(a.home, "/");
        CHECK_INT(a.n_groups, 1);
        CHECK_INT(find("123"), 0); /* a name before a number */
        CHECK_INT(a.uid, 8);
        CHECK_INT(account_find(&a, "0", NULL, 0), 0); /* no file */
        CHECK_INT(a.uid, 0);
}

static void nobody_of_that_name(void) {
        static const char *const names[] = { "",      "short", "long",       "word",        "huge", "none", "minus",
                                             "nobod", "root:", "4294967295", "12345678901", "-1",   "+1",   "1 " };

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                CHECK_INT(find(names[i]), -ENOENT);
        CHECK_INT(account_find(&a, "root", "", 0), -ENOENT);
}

static void groups(void) {
        find("nobody");
        account_add_groups(&a, GROUP, strlen(GROUP));
        CHECK_INT(a.n_groups, 4);
        CHECK_INT(a.groups[0], 65534);
        CHECK_INT(a.groups[1], 10);
        CHECK_INT(a.groups[2], 12);
        CHECK_INT(a.groups[3], 13);
        find("4242");
        account_add_groups(&a, GROUP, strlen(GROUP));
        CHECK_INT(a.n_groups, 1);
        find("nobody");
        account_add_groups(&a, NULL, 0);
        CHECK_INT(a.n_groups, 1);
}

static void too_much(void) {
        char text[1000] = "long:x:1:1::/", many[8192] = "";
        size_t n = strlen(text);

        memset(text + n, 'h', 300);
        strcpy(text + n + 300, ":/bin/sh\n");
        CHECK_INT(account_find(&a, "long", text, strlen(text)), -ERANGE);
        CHECK_INT(account_find(&a, "nul", "nul:x:1:1::/a\0b:/c\n", 19), -ERANGE);

        for (int i = 0; i < 200; i++)
                sprintf(many + strlen(many), "g:x:%d:nobody\n", 1000 + i);
        find("nobody");
        account_add_groups(&a, many, strlen(many));
        CHECK_INT(a.n_groups, ACCOUNT_GROUPS_MAX);
}

int main(void) {
        RUN(by_name);
        RUN(by_number);
        RUN(nobody_of_that_name);
        RUN(groups);
        RUN(too_much);
        return check_done();
}
