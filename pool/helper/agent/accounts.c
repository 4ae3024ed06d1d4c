/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/accounts.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* A part of a text. */
struct span {
        const char *start;
        size_t len;
};

/* What comes before the next @separator of *@rest, which is then behind it. False at the end. */
static bool next_part(struct span *rest, char separator, struct span *part) {
        const char *found;

        if (!rest->start)
                return false;
        found = memchr(rest->start, separator, rest->len);
        part->start = rest->start;
        part->len = found ? (size_t)(found - rest->start) : rest->len;
        if (found) {
                rest->start += part->len + 1;
                rest->len -= part->len + 1;
        } else {
                rest->start = NULL;
        }
        return true;
}

/* The fields of a line between colons. False for another number of them. */
static bool split(struct span line, struct span *fields, size_t n) {
        struct span extra;

        for (size_t i = 0; i < n; i++)
                if (!next_part(&line, ':', &fields[i]))
                        return false;
        return !next_part(&line, ':', &extra);
}

static bool equals(struct span s, const char *text) {
        return s.len == strlen(text) && memcmp(s.start, text, s.len) == 0;
}

/* An id in decimal; (uid_t)-1 stands for "none" in system calls, so nobody has it. */
static bool parse_id(struct span s, uint32_t *id) {
        uint64_t value = 0;

        if (s.len == 0 || s.len > 10)
                return false;
        for (size_t i = 0; i < s.len; i++) {
                if (s.start[i] < '0' || s.start[i] > '9')
                        return false;
                value = value * 10 + (uint64_t)(s.start[i] - '0');
        }
        *id = (uint32_t)value;
        return value < UINT32_MAX;
}

static bool copy_text(struct span s, char out[ACCOUNT_TEXT_MAX]) {
        if (s.len >= ACCOUNT_TEXT_MAX || memchr(s.start, '\0', s.len))
                return false;
        memcpy(out, s.start, s.len);
        out[s.len] = '\0';
        return true;
}

enum passwd_field { NAME, PASSWORD, UID, GID, COMMENT, HOME, SHELL, N_PASSWD };

/* 1: it is this line. 0: it is not. -ERANGE. */
static int read_line(struct account *a, struct span line, const char *user, bool by_number, uint32_t number) {
        struct span f[N_PASSWD];
        uint32_t uid, gid;

        if (!split(line, f, N_PASSWD) || f[NAME].len == 0 || !parse_id(f[UID], &uid) || !parse_id(f[GID], &gid))
                return 0;
        if (by_number ? uid != number : !equals(f[NAME], user))
                return 0;
        if (!copy_text(f[NAME], a->name) || !copy_text(f[HOME], a->home))
                return -ERANGE;
        if (a->home[0] != '/')
                strcpy(a->home, "/");
        a->uid = uid;
        a->gid = gid;
        return 1;
}

static int search(struct account *a, struct span text, const char *user, bool by_number, uint32_t number) {
        struct span line;
        int r = 0;

        while (r == 0 && next_part(&text, '\n', &line))
                r = read_line(a, line, user, by_number, number);
        return r;
}

int account_find(struct account *a, const char *user, const char *passwd, size_t len) {
        struct span text = { len ? passwd : NULL, len };
        uint32_t number;
        int r;

        *a = (struct account){ .home = "/" };
        r = search(a, text, user, false, 0);
        if (r == 0 && parse_id((struct span){ user, strlen(user) }, &number)) {
                r = search(a, text, user, true, number);
                if (r == 0) {
                        a->uid = number;
                        r = 1;
                }
        }
        if (r <= 0)
                return r < 0 ? r : -ENOENT;
        a->groups[0] = a->gid;
        a->n_groups = 1;
        return 0;
}

static bool lists(struct span members, const char *name) {
        struct span member;

        while (next_part(&members, ',', &member))
                if (equals(member, name))
                        return true;
        return false;
}

void account_add_groups(struct account *a, const char *group, size_t len) {
        struct span text = { len ? group : NULL, len }, line, f[4];
        uint32_t gid;

        while (a->name[0] && a->n_groups < ACCOUNT_GROUPS_MAX && next_part(&text, '\n', &line))
                if (split(line, f, 4) && parse_id(f[2], &gid) && gid != a->gid && lists(f[3], a->name))
                        a->groups[a->n_groups++] = gid;
}
