/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "fs/remote/link.h"
#include "prng.h"

static char out[4096];

static const char *target(unsigned depth, const char *text) {
        int r = remote_link_target(depth, text, strlen(text), out, sizeof(out));

        return r == -EPROTO ? "no" : r < 0 ? "long" : out;
}

static void what_is_shown(void) {
        CHECK_STR(target(0, "a"), "a");
        CHECK_STR(target(0, "/"), ".");
        CHECK_STR(target(0, "/etc/x"), "etc/x");
        CHECK_STR(target(1, "/"), "..");
        CHECK_STR(target(3, "/etc/x"), "../../../etc/x");
        CHECK_STR(target(3, "///etc//x"), "../../../etc//x");
        CHECK_STR(target(2, "../../a/b"), "../../a/b");
        CHECK_STR(target(2, "./.././../a"), "./.././../a");
        CHECK_STR(target(1, "a/"), "a/");
        CHECK_STR(target(1, "..."), "...");
}

static void what_cannot_be(void) {
        CHECK_STR(target(0, ""), "no");
        CHECK_STR(target(0, ".."), "no");
        CHECK_STR(target(2, "../../../a"), "no");
        CHECK_STR(target(9, "a/.."), "no");
        CHECK_STR(target(9, "a/../../b"), "no");
        CHECK_STR(target(9, "/.."), "no");
        CHECK_STR(target(9, "/a/../b"), "no");
        CHECK_INT(remote_link_target(9, "a\0b", 3, out, sizeof(out)), -EPROTO);
        CHECK_INT(remote_link_target(2000, "/a", 2, out, sizeof(out)), -ENAMETOOLONG);
}

/* Whatever a helper says, it stays inside. */
static void anything(void) {
        static const char *const parts[] = { "..", ".", "", "a", "...", "/", "..", "\x01", "b" };
        struct prng random = { 1 };

        for (int i = 0; i < 100000; i++) {
                unsigned depth = (unsigned)(prng_next(&random) % 5), ups = 0;
                char text[256] = "", *part, *rest = out;
                bool names = false;

                for (unsigned n = (unsigned)(prng_next(&random) % 9); n > 0; n--) {
                        strcat(text, parts[prng_next(&random) % (sizeof(parts) / sizeof(*parts))]);
                        if (prng_next(&random) % 3)
                                strcat(text, "/");
                }
                if (remote_link_target(depth, text, strlen(text), out, sizeof(out)) < 0)
                        continue;
                CHECK(*out && *out != '/');
                while ((part = strsep(&rest, "/"))) {
                        if (strcmp(part, "..") == 0) {
                                CHECK(!names);
                                ups++;
                        } else if (*part && strcmp(part, ".") != 0) {
                                names = true;
                        }
                }
                CHECK(ups <= depth);
        }
}

int main(void) {
        RUN(what_is_shown);
        RUN(what_cannot_be);
        RUN(anything);
        return check_done();
}
