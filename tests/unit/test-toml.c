/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "pool/backend/modal/config/toml.h"
#include "pool/util/buf.h"
#include "tests/unit/check.h"

static int collect(void *owner, const char *table, const char *key, enum toml_type type, const char *value) {
        static const char types[] = "sbo";

        return buf_printf(owner, "%s|%s|%c|%s\n", table, key, types[type], value);
}

static void good(const char *text, const char *expected) {
        struct buf got = BUF_INIT(10000);
        struct result why = {};

        CHECK_INT(toml_read(text, strlen(text), collect, &got, &why), 0);
        CHECK_STR(why.text, "");
        CHECK_STR(buf_text(&got), expected);
        buf_deinit(&got);
}

static void bad(const char *text, const char *expected) {
        struct buf got = BUF_INIT(10000);
        struct result why = {};

        CHECK_INT(toml_read(text, strlen(text), collect, &got, &why), -EINVAL);
        CHECK_STR(why.text, expected);
        buf_deinit(&got);
}

static void profiles(void) {
        good("# by modal token new\r\n[default]\r\ntoken_id = \"ak-1\" # mine\r\ntoken_secret = 'as-\\2'\r\n"
             "active = true\r\n\r\n[\"work \\u00e9\"]\ntoken_id=\"ak-3\"\nactive=false",
             "default|token_id|s|ak-1\ndefault|token_secret|s|as-\\2\ndefault|active|b|true\n"
             "work \xc3\xa9|token_id|s|ak-3\nwork \xc3\xa9|active|b|false\n");
        good("", "");
        good("\xef\xbb\xbf" "a = ''", "|a|s|\n");
        good("a.b = 'x'\n'c.d'.\"e\" = 'y'", "|a.b|s|x\n|c.d.e|s|y\n");
        good("[a.b]\n[a]\nx='1'", "a|x|s|1\n");
}

static void strings(void) {
        good("a = \"\\t\\\"\\\\\\u20ac\\U0001F600\"", "|a|s|\t\"\\\xe2\x82\xac\xf0\x9f\x98\x80\n");
        good("a = \"\"\"\nx\\\n   y\"\"z\"\"\"", "|a|s|xy\"\"z\n");
        good("a = \"\"\"x\"\"\"\"\"", "|a|s|x\"\"\n");
        good("a = '''\nx\\y\n'z'''", "|a|s|x\\y\n'z\n");
}

/* Read past: nobody needs them. */
static void other_values(void) {
        good("a = [ 1, 'x', # c\n [ { b = [2,], c = 'd]' } ], ]\nb = 1979-05-27 07:32:00Z\nc = 0xff_ff\nd = -1.5e+3\n"
             "e = inf\nf = {}\n[[t]]\ng = 1\n[[t]]\ng = 2",
             "|a|o|\n|b|o|1979-05-27 07:32:00Z\n|c|o|0xff_ff\n|d|o|-1.5e+3\n|e|o|inf\n|f|o|\nt[]|g|o|1\nt[]|g|o|2\n");
}

static void mistakes(void) {
        bad("a = 'x'\n\ntoken = ak-1\n", "line 3: expected a value; text stands in quotes");
        bad("a = \"x\nb = 1", "line 1: a string without its end");
        bad("a = '''x\ny", "line 2: a string without its end");
        bad("a\n", "line 1: expected = after a key");
        bad("= 1\n", "line 1: expected a key");
        bad("[a\nb = 1", "line 1: expected ] after a table's name");
        bad("a = 'x' y", "line 1: expected the end of the line");
        bad("a = \"\\q\"", "line 1: an unknown escape");
        bad("a = \"\\ud800\"", "line 1: an escape that is no character");
        bad("a = \"\\u12\"", "line 1: an escape without its digits");
        bad("a = 1\na = 2\n", "line 2: this key was set before");
        bad("[a]\n[b]\n[a]\n", "line 3: this table was there before");
        bad("a = [1 2]", "line 1: expected , or ]");
        bad("a = {b = 1\n}", "line 1: expected , or }");
        bad("a = [1,\n", "line 2: expected a value");
        bad("a = \xff", "not UTF-8 text");
        bad("a = \"\001\"", "line 1: a control character in a string");
}

static void depth(void) {
        char text[200] = "a = ";

        memset(text + 4, '[', 100);
        bad(text, "line 1: values nested too deeply");
}

static int stop(void *owner, const char *table, const char *key, enum toml_type type, const char *value) {
        return -ENOSPC;
}

static void stopped(void) {
        struct result why;

        CHECK_INT(toml_read("a = 1\n", 6, stop, NULL, &why), -ENOSPC);
}

int main(void) {
        RUN(profiles);
        RUN(strings);
        RUN(other_values);
        RUN(mistakes);
        RUN(depth);
        RUN(stopped);
        return check_done();
}
