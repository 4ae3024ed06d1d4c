/* SPDX-License-Identifier: MIT */
#include "fs/remote/link.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct target {
        char *out;
        size_t len, size;
};

static int add(struct target *t, const char *text, size_t len) {
        if (t->len + len + 1 > t->size)
                return -ENAMETOOLONG;
        memcpy(t->out + t->len, text, len);
        t->len += len;
        t->out[t->len] = '\0';
        return 0;
}

static bool is_up(const char *part, size_t len) {
        return len == 2 && memcmp(part, "..", 2) == 0;
}

/* How many parts lead up; -EPROTO when one comes behind a name. */
static int count_ups(const char *text) {
        bool names = false;
        int ups = 0;

        while (*text) {
                size_t len = strcspn(text, "/");

                if (is_up(text, len) && names)
                        return -EPROTO;
                if (is_up(text, len))
                        ups++;
                else if (len > 0 && !(len == 1 && *text == '.'))
                        names = true;
                text += len + (text[len] == '/');
        }
        return ups;
}

static int add_from_root(struct target *t, unsigned depth, const char *text) {
        int r = 0;

        text += strspn(text, "/");
        for (unsigned i = 0; r == 0 && i < depth; i++)
                r = add(t, i + 1 < depth || *text ? "../" : "..", i + 1 < depth || *text ? 3 : 2);
        if (r == 0 && depth == 0 && !*text)
                return add(t, ".", 1);
        return r < 0 ? r : add(t, text, strlen(text));
}

int remote_link_target(unsigned depth, const char *text, size_t len, char *out, size_t size) {
        struct target t = { .out = out, .size = size };
        char copy[4096];
        int ups;

        if (len == 0 || len >= sizeof(copy) || memchr(text, '\0', len))
                return -EPROTO;
        memcpy(copy, text, len);
        copy[len] = '\0';
        ups = count_ups(copy);
        if (ups < 0 || (*copy == '/' && ups > 0) || (unsigned)ups > depth)
                return -EPROTO;
        return *copy == '/' ? add_from_root(&t, depth, copy) : add(&t, copy, len);
}
