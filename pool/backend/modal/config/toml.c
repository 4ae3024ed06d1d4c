/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/config/toml.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/util/buf.h"
#include "pool/util/text.h"

struct reader {
        const char *p, *end;
        unsigned line;
        struct result *why;
        struct buf table, key, value;
        struct buf seen; /* "table\nkey\n", NUL behind each: nothing may be said twice */
};

static int fail(struct reader *r, const char *what) {
        result_set(r->why, RESULT_INVALID, "line %u: %s", r->line, what);
        return -EINVAL;
}

static bool at(const struct reader *r, const char *word) {
        size_t len = strlen(word);

        return (size_t)(r->end - r->p) >= len && !memcmp(r->p, word, len);
}

static void skip_blank(struct reader *r) {
        while (r->p < r->end && (*r->p == ' ' || *r->p == '\t'))
                r->p++;
}

/* A comment, if one is here, up to the line's end. */
static int skip_comment(struct reader *r) {
        skip_blank(r);
        if (r->p == r->end || *r->p != '#')
                return 0;
        for (; r->p < r->end && *r->p != '\n'; r->p++)
                if (((unsigned char)*r->p < ' ' && *r->p != '\t' && !at(r, "\r\n")) || *r->p == 0x7f)
                        return fail(r, "a control character in a comment");
        return 0;
}

/* True when a newline was there. */
static bool take_newline(struct reader *r) {
        if (at(r, "\r\n"))
                r->p++;
        if (r->p == r->end || *r->p != '\n')
                return false;
        r->p++;
        r->line++;
        return true;
}

static int expect_line_end(struct reader *r) {
        int n = skip_comment(r);

        if (n < 0)
                return n;
        if (r->p < r->end && !take_newline(r))
                return fail(r, "expected the end of the line");
        return 0;
}

/* Blanks, comments and newlines, as inside an array. */
static int skip_lines(struct reader *r) {
        int n;

        do {
                n = skip_comment(r);
        } while (n == 0 && take_newline(r));
        return n;
}

static int append_utf8(struct reader *r, uint32_t c, struct buf *out) {
        char b[4];
        size_t n = 0;

        if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return fail(r, "an escape that is no character");
        if (c < 0x80) {
                b[n++] = c;
        } else if (c < 0x800) {
                b[n++] = 0xc0 | c >> 6;
        } else if (c < 0x10000) {
                b[n++] = 0xe0 | c >> 12;
                b[n++] = 0x80 | (c >> 6 & 0x3f);
        } else {
                b[n++] = 0xf0 | c >> 18;
                b[n++] = 0x80 | (c >> 12 & 0x3f);
                b[n++] = 0x80 | (c >> 6 & 0x3f);
        }
        if (c >= 0x80)
                b[n++] = 0x80 | (c & 0x3f);
        return buf_append(out, b, n);
}

/* Behind the backslash. */
static int take_escape(struct reader *r, bool many_lines, struct buf *out) {
        static const char names[] = "btnfr\"\\", bytes[] = "\b\t\n\f\r\"\\";
        const char *name;
        uint32_t c = 0;
        int digits;

        if (r->p == r->end)
                return fail(r, "a string without its end");
        name = *r->p ? strchr(names, *r->p) : NULL;
        if (name) {
                r->p++;
                return buf_append(out, &bytes[name - names], 1);
        }
        if (*r->p == 'u' || *r->p == 'U') {
                digits = *r->p++ == 'u' ? 4 : 8;
                for (; digits > 0; digits--, r->p++) {
                        int h = r->p < r->end ? *r->p : 0;

                        if (h >= '0' && h <= '9')
                                h -= '0';
                        else if ((h | 0x20) >= 'a' && (h | 0x20) <= 'f')
                                h = (h | 0x20) - 'a' + 10;
                        else
                                return fail(r, "an escape without its digits");
                        c = c << 4 | h;
                }
                return append_utf8(r, c, out);
        }
        if (many_lines) {
                /* A backslash at a line's end joins it with what follows the next blanks. */
                skip_blank(r);
                if (take_newline(r)) {
                        do
                                skip_blank(r);
                        while (take_newline(r));
                        return 0;
                }
        }
        return fail(r, "an unknown escape");
}

/* At one of the four kinds of string; @one_line: as a key, where only two are allowed. */
static int take_string(struct reader *r, bool one_line, struct buf *out) {
        char quote = *r->p, ends[4] = { quote, quote, quote, 0 };
        bool basic = quote == '"', many_lines = at(r, ends);
        int n = 0;

        if (many_lines && one_line)
                return fail(r, "a key must be in one line");
        if (!many_lines)
                ends[1] = 0;
        r->p += strlen(ends);
        if (many_lines)
                (void)take_newline(r);
        while (n == 0) {
                if (r->p == r->end)
                        return fail(r, "a string without its end");
                if (at(r, ends)) {
                        r->p += strlen(ends);
                        /* Up to two quotes may stand before the three that end it. */
                        for (int i = 0; many_lines && n == 0 && i < 2 && r->p < r->end && *r->p == quote; i++, r->p++)
                                n = buf_append(out, &quote, 1);
                        return n;
                }
                if (basic && *r->p == '\\') {
                        r->p++;
                        n = take_escape(r, many_lines, out);
                } else if (*r->p == '\n' || at(r, "\r\n")) {
                        if (!many_lines)
                                return fail(r, "a string without its end");
                        (void)take_newline(r);
                        n = buf_append(out, "\n", 1);
                } else if (((unsigned char)*r->p < ' ' && *r->p != '\t') || *r->p == 0x7f) {
                        return fail(r, "a control character in a string");
                } else {
                        n = buf_append(out, r->p++, 1);
                }
        }
        return n;
}

static bool is_bare(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* A key of parts with dots between them. */
static int take_key(struct reader *r, struct buf *out) {
        int n = 0;

        for (;;) {
                skip_blank(r);
                if (r->p < r->end && (*r->p == '"' || *r->p == '\'')) {
                        n = take_string(r, true, out);
                } else {
                        const char *begin = r->p;

                        while (r->p < r->end && is_bare(*r->p))
                                r->p++;
                        if (r->p == begin)
                                return fail(r, "expected a key");
                        n = buf_append(out, begin, r->p - begin);
                }
                skip_blank(r);
                if (n < 0 || r->p == r->end || *r->p != '.')
                        return n;
                r->p++;
                n = buf_append(out, ".", 1);
                if (n < 0)
                        return n;
        }
}

static int take_value(struct reader *r, unsigned depth, enum toml_type *type, struct buf *out);

/* Past an array or an inline table; what is in it interests nobody. */
static int skip_nested(struct reader *r, unsigned depth) {
        bool table = *r->p++ == '{';
        char close = table ? '}' : ']';
        enum toml_type type;
        int n;

        if (depth == TOML_DEPTH_MAX)
                return fail(r, "values nested too deeply");
        for (bool first = true;; first = false) {
                n = table ? (skip_blank(r), 0) : skip_lines(r);
                if (n < 0)
                        return n;
                if (r->p < r->end && *r->p == close && (first || !table))
                        break;
                if (table) {
                        struct buf key = BUF_INIT(TOML_VALUE_MAX);

                        n = take_key(r, &key);
                        buf_deinit(&key);
                        if (n < 0)
                                return n;
                        if (r->p == r->end || *r->p++ != '=')
                                return fail(r, "expected = after a key");
                        skip_blank(r);
                }
                struct buf ignored = BUF_INIT(TOML_VALUE_MAX);

                n = take_value(r, depth + 1, &type, &ignored);
                buf_deinit(&ignored);
                if (n == 0)
                        n = table ? (skip_blank(r), 0) : skip_lines(r);
                if (n < 0)
                        return n;
                if (r->p < r->end && *r->p == close)
                        break;
                if (r->p == r->end || *r->p++ != ',')
                        return fail(r, table ? "expected , or }" : "expected , or ]");
        }
        r->p++;
        return 0;
}

static int take_value(struct reader *r, unsigned depth, enum toml_type *type, struct buf *out) {
        const char *begin = r->p;

        if (r->p == r->end)
                return fail(r, "expected a value");
        if (*r->p == '"' || *r->p == '\'') {
                *type = TOML_STRING;
                return take_string(r, false, out);
        }
        *type = TOML_OTHER;
        if (*r->p == '[' || *r->p == '{')
                return skip_nested(r, depth);

        /* A date and a time may have one blank between them. */
        while (r->p < r->end && (is_bare(*r->p) || *r->p == '+' || *r->p == '.' || *r->p == ':' ||
                                 (*r->p == ' ' && r->p - begin == 10 && begin[4] == '-' && r->end - r->p > 1 &&
                                  r->p[1] >= '0' && r->p[1] <= '9')))
                r->p++;
        if (r->p - begin == 4 && !memcmp(begin, "true", 4))
                *type = TOML_BOOL;
        else if (r->p - begin == 5 && !memcmp(begin, "false", 5))
                *type = TOML_BOOL;
        else if (r->p == begin || !(strchr("+-0123456789", *begin) ||
                                    (r->p - begin == 3 && (!memcmp(begin, "inf", 3) || !memcmp(begin, "nan", 3)))))
                return fail(r, "expected a value; text stands in quotes");
        return buf_append(out, begin, r->p - begin);
}

/* Remember that it was said; -EINVAL when it was before. */
static int note(struct reader *r, const char *a, const char *b) {
        size_t la = strlen(a), lb = strlen(b), len;
        int n;

        for (const char *s = buf_text(&r->seen), *end = s + r->seen.len; s < end; s += len + 1) {
                len = strlen(s);
                if (len == la + 1 + lb && !memcmp(s, a, la) && s[la] == '\n' && !memcmp(s + la + 1, b, lb))
                        return fail(r, *b ? "this key was set before" : "this table was there before");
        }
        n = buf_printf(&r->seen, "%s\n%s", a, b);
        return n < 0 ? n : buf_append(&r->seen, "", 1);
}

static int read_table(struct reader *r) {
        bool array = at(r, "[[");
        int n;

        r->p += array ? 2 : 1;
        buf_clear(&r->table);
        n = take_key(r, &r->table);
        if (n < 0)
                return n;
        if (!at(r, array ? "]]" : "]"))
                return fail(r, "expected ] after a table's name");
        r->p += array ? 2 : 1;
        n = array ? buf_append(&r->table, "[]", 2) : note(r, buf_text(&r->table), "");
        return n < 0 ? n : expect_line_end(r);
}

static int read_pair(struct reader *r, toml_take_fn *take, void *owner) {
        enum toml_type type;
        int n;

        buf_clear(&r->key);
        buf_clear(&r->value);
        n = take_key(r, &r->key);
        if (n < 0)
                return n;
        if (r->p == r->end || *r->p != '=')
                return fail(r, "expected = after a key");
        r->p++;
        skip_blank(r);
        n = take_value(r, 0, &type, &r->value);
        if (n == 0 && (r->table.len < 2 || memcmp(r->table.data + r->table.len - 2, "[]", 2)))
                n = note(r, buf_text(&r->table), buf_text(&r->key));
        if (n == 0)
                n = expect_line_end(r);
        return n < 0 ? n : take(owner, buf_text(&r->table), buf_text(&r->key), type, buf_text(&r->value));
}

int toml_read(const char *text, size_t len, toml_take_fn *take, void *owner, struct result *why) {
        struct reader r = {
                .p = text,
                .end = text + len,
                .line = 1,
                .why = why,
                .table = BUF_INIT(TOML_VALUE_MAX),
                .key = BUF_INIT(TOML_VALUE_MAX),
                .value = BUF_INIT(TOML_VALUE_MAX),
                .seen = BUF_INIT(TOML_FILE_MAX),
        };
        int n = 0;

        if (memchr(text, '\0', len) || !text_is_utf8(text, len)) {
                result_set(why, RESULT_INVALID, "not UTF-8 text");
                return -EINVAL;
        }
        if (at(&r, "\xef\xbb\xbf"))
                r.p += 3;
        while (n == 0 && (n = skip_lines(&r)) == 0 && r.p < r.end)
                n = *r.p == '[' ? read_table(&r) : read_pair(&r, take, owner);
        if (n == -EFBIG)
                n = fail(&r, "too long");
        buf_deinit(&r.table);
        buf_deinit(&r.key);
        buf_deinit(&r.value);
        buf_deinit(&r.seen);
        return n;
}
