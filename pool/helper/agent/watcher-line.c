/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/watcher-line.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "pool/helper/agent/limits.h"

#define LINE_MAX_SIZE (2 * (6 * WATCHER_PATH_MAX + 3) + 128)

static char *pending;
static size_t start, len, size;

/* Bytes of the character of UTF-8 at @p; 0: it is none. */
static size_t character_len(const uint8_t *p) {
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;
        uint32_t c = n > 1 ? *p & (0x7f >> n) : 0;

        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        if (n > 1 && (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)))
                return 0;
        return n;
}

size_t line_quote(const char *in, char *out) {
        const uint8_t *p = (const uint8_t *)in;
        char *to = out;

        *to++ = '"';
        while (*p) {
                size_t n = character_len(p);

                if (n == 0) {
                        to += sprintf(to, "\\udc%02x", *p++);
                } else if (*p < 0x20 || *p == 0x7f) {
                        to += sprintf(to, "\\u%04x", *p++);
                } else if (*p == '"' || *p == '\\') {
                        *to++ = '\\';
                        *to++ = (char)*p++;
                } else {
                        memcpy(to, p, n);
                        to += n;
                        p += n;
                }
        }
        *to++ = '"';
        *to = '\0';
        return to - out;
}

static bool add(const char *bytes, size_t n) {
        if (start == len)
                start = len = 0;
        if (len + n > size) {
                size_t more = size ? size : LINE_MAX_SIZE;
                char *p;

                while (more < len + n)
                        more *= 2;
                p = realloc(pending, more);
                if (!p)
                        return false;
                pending = p;
                size = more;
        }
        memcpy(pending + len, bytes, n);
        len += n;
        return true;
}

void line_put(const char *event, const char *from, const char *path, bool directory) {
        static const char overflow[] = "{\"event\": \"overflow\"}\n";
        static char line[LINE_MAX_SIZE];
        static bool lost;
        char *to = line;

        to += sprintf(to, "{\"event\": \"%s\"", event);
        if (from) {
                to += sprintf(to, ", \"from\": ");
                to += line_quote(from, to);
        }
        if (path) {
                to += sprintf(to, ", \"path\": ");
                to += line_quote(path, to);
        }
        to += sprintf(to, directory ? ", \"directory\": true}\n" : "}\n");
        if (lost && !add(overflow, strlen(overflow)))
                return;
        lost = !add(line, to - line);
}

size_t line_pending(void) {
        return len - start;
}

bool line_send(int socket) {
        ssize_t n = send(socket, pending + start, len - start, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        start += n;
        return true;
}
