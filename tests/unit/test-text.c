/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>

#include "check.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

static bool utf8(const char *s) {
        return text_is_utf8(s, strlen(s));
}

static void utf8_good(void) {
        CHECK(text_is_utf8("", 0));
        CHECK(utf8("plain"));
        CHECK(utf8("\xc2\x80"));         /* U+0080, the first of two bytes */
        CHECK(utf8("\xdf\xbf"));         /* U+07FF, the last of two */
        CHECK(utf8("\xe0\xa0\x80"));     /* U+0800 */
        CHECK(utf8("\xed\x9f\xbf"));     /* U+D7FF, before the surrogates */
        CHECK(utf8("\xee\x80\x80"));     /* U+E000, after them */
        CHECK(utf8("\xef\xbf\xbf"));     /* U+FFFF */
        CHECK(utf8("\xf0\x90\x80\x80")); /* U+10000 */
        CHECK(utf8("\xf4\x8f\xbf\xbf")); /* U+10FFFF, the last of all */
        CHECK(utf8("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"));
        CHECK(text_is_utf8("a\0b", 3));
}

static void utf8_bad(void) {
        CHECK(!utf8("\x80")); /* a continuation without a beginning */
        CHECK(!utf8("a\xbf"));
        CHECK(!utf8("\xc0\x80"));             /* overlong NUL */
        CHECK(!utf8("\xc1\xbf"));             /* overlong U+007F */
        CHECK(!utf8("\xe0\x9f\xbf"));         /* overlong U+07FF */
        CHECK(!utf8("\xf0\x8f\xbf\xbf"));     /* overlong U+FFFF */
        CHECK(!utf8("\xed\xa0\x80"));         /* U+D800 */
        CHECK(!utf8("\xed\xbf\xbf"));         /* U+DFFF */
        CHECK(!utf8("\xf4\x90\x80\x80"));     /* U+110000 */
        CHECK(!utf8("\xf8\x88\x80\x80\x80")); /* five bytes */
        CHECK(!utf8("\xfe"));
        CHECK(!utf8("\xff"));
        CHECK(!utf8("\xc3")); /* cut short */
        CHECK(!utf8("\xe2\x82"));
        CHECK(!utf8("\xf0\x9f\x98"));
        CHECK(!utf8("\xe2\x82"
                    "a"));                   /* cut short by a letter */
        CHECK(!text_is_utf8("\xc3\xbc", 1)); /* the length counts, not the NUL */
}

static void numbers(void) {
        uint64_t n = 7;

        CHECK_INT(text_to_u64("0", &n), 0);
        CHECK_INT(n, 0);
        CHECK_INT(text_to_u64("18446744073709551615", &n), 0);
        CHECK(n == UINT64_MAX);
        CHECK_INT(text_to_u64("18446744073709551616", &n), -ERANGE);
        CHECK_INT(text_to_u64("", &n), -EINVAL);
        CHECK_INT(text_to_u64("-1", &n), -EINVAL);
        CHECK_INT(text_to_u64("+1", &n), -EINVAL);
        CHECK_INT(text_to_u64(" 1", &n), -EINVAL);
        CHECK_INT(text_to_u64("1 ", &n), -EINVAL);
        CHECK_INT(text_to_u64("0x10", &n), -EINVAL);
        CHECK_INT(text_to_u64("1.5", &n), -EINVAL);
        CHECK(n == UINT64_MAX); /* untouched by what failed */
}

static void seconds(void) {
        int64_t us = 7;

        CHECK_INT(text_to_usec("180", &us), 0);
        CHECK_INT(us, 180000000);
        CHECK_INT(text_to_usec("0.5", &us), 0);
        CHECK_INT(us, 500000);
        CHECK_INT(text_to_usec("0", &us), 0);
        CHECK_INT(us, 0);
        CHECK_INT(text_to_usec("1.000001", &us), 0);
        CHECK_INT(us, 1000001);
        CHECK_INT(text_to_usec("1.0000019", &us), 0); /* finer than a microsecond is cut */
        CHECK_INT(us, 1000001);
        CHECK_INT(text_to_usec("1000000000", &us), 0);
        CHECK_INT(us, 1000000000000000);
        CHECK_INT(text_to_usec("1000000001", &us), -ERANGE);
        CHECK_INT(text_to_usec("99999999999999999999", &us), -ERANGE);
        CHECK_INT(text_to_usec("", &us), -EINVAL);
        CHECK_INT(text_to_usec("-1", &us), -EINVAL);
        CHECK_INT(text_to_usec(".5", &us), -EINVAL);
        CHECK_INT(text_to_usec("5.", &us), -EINVAL);
        CHECK_INT(text_to_usec("5s", &us), -EINVAL);
        CHECK_INT(text_to_usec("1e3", &us), -EINVAL);
        CHECK_INT(text_to_usec("1,5", &us), -EINVAL);
        CHECK_INT(text_to_usec("1.5.5", &us), -EINVAL);
        CHECK_INT(us, 1000000000000000);
}

static void bytes(void) {
        uint64_t n = 7;

        CHECK_INT(text_to_bytes("1048576", &n), 0);
        CHECK_INT(n, 1048576);
        CHECK_INT(text_to_bytes("64K", &n), 0);
        CHECK_INT(n, 65536);
        CHECK_INT(text_to_bytes("20m", &n), 0);
        CHECK_INT(n, 20971520);
        CHECK_INT(text_to_bytes("1G", &n), 0);
        CHECK_INT(n, 1073741824);
        CHECK_INT(text_to_bytes("2t", &n), 0);
        CHECK_INT(n, 2199023255552);
        CHECK_INT(text_to_bytes("16777215T", &n), 0);
        CHECK(n == UINT64_C(16777215) << 40);
        CHECK_INT(text_to_bytes("16777216T", &n), -ERANGE);
        CHECK_INT(text_to_bytes("", &n), -EINVAL);
        CHECK_INT(text_to_bytes("K", &n), -EINVAL);
        CHECK_INT(text_to_bytes("1KB", &n), -EINVAL);
        CHECK_INT(text_to_bytes("1P", &n), -EINVAL);
        CHECK_INT(text_to_bytes("1 ", &n), -EINVAL);
        CHECK_INT(text_to_bytes("1 K", &n), -EINVAL);
        CHECK_INT(text_to_bytes("1+", &n), -EINVAL);
        CHECK_INT(text_to_bytes("1\x0b", &n), -EINVAL);
        CHECK_INT(text_to_bytes("1.5G", &n), -EINVAL);
        CHECK_INT(text_to_bytes("-1K", &n), -EINVAL);
        CHECK(n == UINT64_C(16777215) << 40);
}

static void booleans(void) {
        static const char *const yes[] = { "yes", "true", "on", "1", "YES", "On" };
        static const char *const no[] = { "no", "false", "off", "0", "No", "OFF" };
        static const char *const neither[] = { "", "y", "2", "yes ", "maybe", "00" };
        bool b;

        for (size_t i = 0; i < 6; i++) {
                b = false;
                CHECK(text_to_bool(yes[i], &b) == 0 && b);
                CHECK(text_to_bool(no[i], &b) == 0 && !b);
                CHECK_INT(text_to_bool(neither[i], &b), -EINVAL);
        }
}

static void signals(void) {
        CHECK_INT(text_to_signal("INT"), SIGINT);
        CHECK_INT(text_to_signal("SIGINT"), SIGINT);
        CHECK_INT(text_to_signal("sigterm"), SIGTERM);
        CHECK_INT(text_to_signal("kill"), SIGKILL);
        CHECK_INT(text_to_signal("2"), 2);
        CHECK_INT(text_to_signal("64"), 64);
        CHECK_INT(text_to_signal("65"), -EINVAL);
        CHECK_INT(text_to_signal("0"), -EINVAL);
        CHECK_INT(text_to_signal("-9"), -EINVAL);
        CHECK_INT(text_to_signal(""), -EINVAL);
        CHECK_INT(text_to_signal("SIG"), -EINVAL);
        CHECK_INT(text_to_signal("SIGSIGINT"), -EINVAL);
        CHECK_INT(text_to_signal("INT "), -EINVAL);
        CHECK_INT(text_to_signal("18446744073709551618"), -EINVAL);
}

static const char *shown(const char *s, size_t size) {
        static char out[100];

        text_show(out, size, s, strlen(s));
        if (size > strlen(s))
                CHECK_INT(text_is_plain(s, strlen(s)), !strcmp(s, out));
        return out;
}

static void showing(void) {
        static const struct {
                const char *text, *shown;
        } cases[] = {
                { "", "" },
                { "plain, 100%\\n", "plain, 100%\\n" },
                { "gr\u00fcn \u65e5\u672c \u20ac \U0001f469\u200d\U0001f4bb", "gr\u00fcn \u65e5\u672c \u20ac \U0001f469\u200d\U0001f4bb" },
                { "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645" },
                { "a\nstate leased\r\t\x1b[2J\x7f", "a state leased   [2J " },
                { "a\xc2\x80z\xc2\x85\xc2\x9b\xc2\x9f\xc2\xa0", "a z   \xc2\xa0" },
                { "\u2028\u2029\u202f", "  \u202f" },
                { "\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e", "?????????" },
                { "\u2060\u2066\u2067\u2068\u2069\ufeff\u180e\ufff9\U000e0041", "?????????" },
                { "\xff\xc3\xe2\x80z\xc0\x8a\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82", "????z???????????" },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                CHECK_STR(shown(cases[i].text, 100), cases[i].shown);
        CHECK_STR(shown("a\u20acb", 6), "a\u20acb");
        CHECK_STR(shown("a\u20acb", 5), "a\u20ac");
        CHECK_STR(shown("a\u20acb", 4), "a");
        CHECK_STR(shown("ab", 1), "");
}

static void nul_is_shown_too(void) {
        char text[] = "a\0b";

        CHECK(!text_is_plain(text, 3));
        text_show(text, sizeof(text), text, 3);
        CHECK_STR(text, "a b");
}

static void ids(void) {
        CHECK(text_is_id("sb-AZaz09_", 79));
        CHECK(text_is_id("a", 1));
        CHECK(!text_is_id("ab", 1));
        CHECK(!text_is_id("", 79));
        CHECK(!text_is_id("sb-1\n", 79));
        CHECK(!text_is_id("sb 1", 79));
        CHECK(!text_is_id("sb/../1", 79));
        CHECK(!text_is_id("sb-\xc3\xbc", 79));
}

static const char *quoted(const char *s, struct buf *out) {
        buf_clear(out);
        return text_quote(s, out) == 0 ? buf_text(out) : NULL;
}

static void quoting(void) {
        struct buf out = BUF_INIT(100), small = BUF_INIT(4);

        CHECK_STR(quoted("", &out), "''");
        CHECK_STR(quoted("a b", &out), "'a b'");
        CHECK_STR(quoted("$(rm -rf /)`x`\"\\\n", &out), "'$(rm -rf /)`x`\"\\\n'");
        CHECK_STR(quoted("it's", &out), "'it'\\''s'");
        CHECK_STR(quoted("'", &out), "''\\'''");
        CHECK_STR(quoted("''x", &out), "''\\'''\\''x'");
        CHECK_INT(text_quote("abc", &small), -EFBIG);
        buf_deinit(&out);
        buf_deinit(&small);
}

static void durations(void) {
        static const struct {
                int64_t us;
                const char *text;
        } cases[] = {
                { 0, "0s" },
                { -5 * USEC_PER_SEC, "0s" },
                { USEC_PER_SEC - 1, "0s" },
                { 42 * USEC_PER_SEC, "42s" },
                { 60 * USEC_PER_SEC, "1m00s" },
                { 190 * USEC_PER_SEC, "3m10s" },
                { 3600 * USEC_PER_SEC - 1, "59m59s" },
                { 7500 * USEC_PER_SEC, "2h05m" },
                { 86400 * USEC_PER_SEC, "1d00h" },
                { (12 * 86400 + 4 * 3600) * USEC_PER_SEC, "12d04h" },
                { USEC_NEVER, "106751991d04h" },
        };
        char text[TEXT_DURATION_SIZE];

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                CHECK_STR(text_from_usec(cases[i].us, text), cases[i].text);
}

static void sizes(void) {
        static const char *const none[] = { "", "24", "24 ", " 24 80", "24 80 ", "0 80", "24 0", "24x80", "-1 80", "24\t80" };
        uint16_t rows = 0, columns = 0;

        CHECK_INT(text_to_size("24 80", &rows, &columns), 0);
        CHECK(rows == 24 && columns == 80);
        CHECK_INT(text_to_size("65535  1", &rows, &columns), 0);
        CHECK(rows == 65535 && columns == 1);
        CHECK_INT(text_to_size("65536 1", &rows, &columns), -ERANGE);
        CHECK_INT(text_to_size("1 65536", &rows, &columns), -ERANGE);
        for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
                CHECK_INT(text_to_size(none[i], &rows, &columns), -EINVAL);
        CHECK(rows == 65535 && columns == 1);
}

int main(void) {
        RUN(sizes);
        RUN(utf8_good);
        RUN(utf8_bad);
        RUN(numbers);
        RUN(seconds);
        RUN(bytes);
        RUN(booleans);
        RUN(durations);
        RUN(signals);
        RUN(quoting);
        RUN(showing);
        RUN(nul_is_shown_too);
        RUN(ids);
        return check_done();
}
