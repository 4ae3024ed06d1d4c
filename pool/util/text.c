/* SPDX-License-Identifier: MIT */
#include "pool/util/text.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pool/util/clock.h"

#define SECONDS_MAX 1000000000 /* about 31 years: a timeout past it is a mistake */

/* The character at *p, and move *p behind it. -EINVAL if there is none: then *p moves by one byte. */
static int next_character(const char **p, const char *end, uint32_t *code) {
        const unsigned char *at = (const unsigned char *)*p;
        unsigned char c = *at++;
        uint32_t least;
        int more;

        ++*p;
        if (c < 0x80)
                more = 0, *code = c, least = 0;
        else if ((c & 0xe0) == 0xc0)
                more = 1, *code = c & 0x1f, least = 0x80;
        else if ((c & 0xf0) == 0xe0)
                more = 2, *code = c & 0x0f, least = 0x800;
        else if ((c & 0xf8) == 0xf0)
                more = 3, *code = c & 0x07, least = 0x10000;
        else
                return -EINVAL;
        if (more > end - *p)
                return -EINVAL;
        for (int i = 0; i < more; i++) {
                if ((*at & 0xc0) != 0x80)
                        return -EINVAL;
                *code = *code << 6 | (*at++ & 0x3f);
        }
        if (*code < least || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
                return -EINVAL;
        *p += more;
        return 0;
}

bool text_is_utf8(const char *s, size_t len) {
        const char *end = s + len;
        uint32_t code;

        while (s < end)
                if (next_character(&s, end, &code) < 0)
                        return false;
        return true;
}

/*
 * What is shown in place of a character; NUL: the character itself. The joiners U+200C and U+200D do not count as
 * invisible, because Persian, Hindi and emoji need them.
 */
static char stand_in(uint32_t code) {
        static const struct {
                uint32_t first, last;
                char shown;
        } ranges[] = {
                { 0x00, 0x1f, ' ' },       { 0x7f, 0x9f, ' ' },       { 0x061c, 0x061c, '?' }, /* a mark of direction */
                { 0x180e, 0x180e, '?' },   { 0x200b, 0x200b, '?' },   { 0x200e, 0x200f, '?' }, /* likewise */
                { 0x2028, 0x2029, ' ' },   { 0x202a, 0x202e, '?' },   { 0x2060, 0x206f, '?' }, /* with the isolates */
                { 0xfeff, 0xfeff, '?' },   { 0xfff9, 0xfffb, '?' },   { 0xe0000, 0xe007f, '?' },
        };

        for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]) && code >= ranges[i].first; i++)
                if (code <= ranges[i].last)
                        return ranges[i].shown;
        return '\0';
}

#define EACH_BYTE(c) (UINT64_C(0x0101010101010101) * (c))

/*
 * Whether all of 8 bytes are printable ASCII. Each test sets the high bit of a byte that is not, and maybe of those
 * above.
 */
static bool is_ascii8(const char *p) {
        uint64_t bytes, del;

        memcpy(&bytes, p, sizeof(bytes));
        del = bytes ^ EACH_BYTE(0x7f);
        return !((bytes | (bytes - EACH_BYTE(' ')) | ((del - EACH_BYTE(1)) & ~del)) & EACH_BYTE(0x80));
}

/* Skip the printable ASCII at @p, of which most text consists. */
static const char *skip_ascii(const char *p, const char *end) {
        while (end - p >= 8 && is_ascii8(p))
                p += 8;
        while (p < end && (unsigned char)(*p - ' ') < 0x7f - ' ')
                p++;
        return p;
}

/* Move *p behind the next character. Returns what is shown in its place, or NUL. */
static char take_shown(const char **p, const char *end) {
        uint32_t code;

        return next_character(p, end, &code) < 0 ? '?' : stand_in(code);
}

/* Returns where more may be added. */
static char *add(char *out, const char *in, size_t n) {
        if (out != in)
                memmove(out, in, n);
        return out + n;
}

void text_show(char *out, size_t size, const char *in, size_t len) {
        const char *end = in + len;
        char *last = out + size - 1;

        while (in < end && out < last) {
                size_t room = last - out, n = skip_ascii(in, end) - in;
                const char *begin = in;
                char shown;

                if (n > 0) {
                        out = add(out, in, n < room ? n : room);
                        in += n;
                        continue;
                }
                shown = take_shown(&in, end);
                if (shown)
                        *out++ = shown;
                else if ((size_t)(in - begin) <= room)
                        out = add(out, begin, in - begin);
                else
                        break;
        }
        *out = '\0';
}

bool text_is_plain(const char *s, size_t len) {
        const char *end = s + len;

        while ((s = skip_ascii(s, end)) < end)
                if (take_shown(&s, end))
                        return false;
        return true;
}

bool text_is_id(const char *s, size_t max) {
        size_t len = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

        return len > 0 && len <= max && !s[len];
}

/* The number at @s, and *end behind its digits. -EINVAL without digits. */
static int digits_to_u64(const char *s, const char **end, uint64_t *out) {
        uint64_t value = 0;
        const char *p;

        for (p = s; *p >= '0' && *p <= '9'; p++)
                if (__builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
                        return -ERANGE;
        if (p == s)
                return -EINVAL;
        *end = p;
        *out = value;
        return 0;
}

int text_to_u64(const char *s, uint64_t *out) {
        const char *end;
        uint64_t value;
        int r = digits_to_u64(s, &end, &value);

        if (r < 0)
                return r;
        if (*end)
                return -EINVAL;
        *out = value;
        return 0;
}

int text_to_size(const char *s, uint16_t *rows, uint16_t *columns) {
        uint64_t first, second;
        int r = digits_to_u64(s, &s, &first);

        if (r == 0 && *s != ' ')
                r = -EINVAL;
        while (r == 0 && *s == ' ')
                s++;
        if (r == 0)
                r = text_to_u64(s, &second);
        if (r < 0)
                return r;
        if (first == 0 || second == 0)
                return -EINVAL;
        if (first > UINT16_MAX || second > UINT16_MAX)
                return -ERANGE;
        *rows = first;
        *columns = second;
        return 0;
}

int text_to_usec(const char *s, int64_t *out) {
        uint64_t seconds;
        int64_t fraction = 0, unit = USEC_PER_SEC / 10;
        int r;

        r = digits_to_u64(s, &s, &seconds);
        if (r < 0)
                return r;
        if (*s == '.') {
                for (s++; *s >= '0' && *s <= '9'; s++, unit /= 10)
                        fraction += (*s - '0') * unit;
                if (s[-1] == '.')
                        return -EINVAL;
        }
        if (*s)
                return -EINVAL;
        if (seconds > SECONDS_MAX)
                return -ERANGE;
        *out = (int64_t)seconds * USEC_PER_SEC + fraction;
        return 0;
}

const char *text_from_usec(int64_t us, char out[static TEXT_DURATION_SIZE]) {
        int64_t s = us > 0 ? us / USEC_PER_SEC : 0;
        int minutes = s / 60 % 60, hours = s / 3600 % 24, seconds = s % 60;

        if (s < 60)
                snprintf(out, TEXT_DURATION_SIZE, "%ds", seconds);
        else if (s < 3600)
                snprintf(out, TEXT_DURATION_SIZE, "%dm%02ds", minutes, seconds);
        else if (s < 86400)
                snprintf(out, TEXT_DURATION_SIZE, "%dh%02dm", hours, minutes);
        else
                snprintf(out, TEXT_DURATION_SIZE, "%" PRId64 "d%02dh", s / 86400, hours);
        return out;
}

int text_to_bytes(const char *s, uint64_t *out) {
        static const char units[] = "KMGT";
        uint64_t value;
        const char *unit;
        int r;

        r = digits_to_u64(s, &s, &value);
        if (r < 0)
                return r;
        if (*s) {
                unit = strchr(units, *s & ~0x20);
                if (!unit || !*unit || s[1]) /* a space would find the NUL */
                        return -EINVAL;
                for (int i = unit - units; i >= 0; i--)
                        if (__builtin_mul_overflow(value, UINT64_C(1024), &value))
                                return -ERANGE;
        }
        *out = value;
        return 0;
}

int text_to_bool(const char *s, bool *out) {
        static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
                if (!strcasecmp(s, words[i])) {
                        *out = i & 1;
                        return 0;
                }
        return -EINVAL;
}

int text_to_signal(const char *s) {
        uint64_t number;

        if (text_to_u64(s, &number) == 0)
                return number > 0 && number < (uint64_t)NSIG ? (int)number : -EINVAL;
        if (!strncasecmp(s, "SIG", 3))
                s += 3;
        for (int i = 1; i < NSIG; i++) {
                const char *name = sigabbrev_np(i);

                if (name && !strcasecmp(s, name))
                        return i;
        }
        return -EINVAL;
}

bool text_is_variable(const char *s, size_t len) {
        for (size_t i = 0; i < len; i++)
                if (!(s[i] == '_' || (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
                      (i > 0 && s[i] >= '0' && s[i] <= '9')))
                        return false;
        return len > 0;
}

int text_quote(const char *s, struct buf *out) {
        int r = buf_append(out, "'", 1);

        while (r == 0 && *s) {
                size_t plain = strcspn(s, "'");

                r = buf_append(out, s, plain);
                s += plain;
                if (r == 0 && *s == '\'') {
                        r = buf_append(out, "'\\''", 4);
                        s++;
                }
        }
        return r < 0 ? r : buf_append(out, "'", 1);
}
