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

bool text_is_utf8(const char *s, size_t len) {
        const unsigned char *p = (const unsigned char *)s, *end = p + len;

        while (p < end) {
                unsigned char c = *p++;
                uint32_t code, least;
                int more;

                if (c < 0x80)
                        continue;
                if ((c & 0xe0) == 0xc0)
                        more = 1, code = c & 0x1f, least = 0x80;
                else if ((c & 0xf0) == 0xe0)
                        more = 2, code = c & 0x0f, least = 0x800;
                else if ((c & 0xf8) == 0xf0)
                        more = 3, code = c & 0x07, least = 0x10000;
                else
                        return false;
                while (more-- > 0) {
                        if (p == end || (*p & 0xc0) != 0x80)
                                return false;
                        code = code << 6 | (*p++ & 0x3f);
                }
                if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
                        return false;
        }
        return true;
}

/* The digits at @s; -EINVAL when there are none. *end is set behind them. */
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
