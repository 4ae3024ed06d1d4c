/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/io.h"

#define UNDO_ROUNDS 1000 /* mounts that are undone */

static int open_mountinfo(int proc) {
        int fd = openat(proc, "self/mountinfo", O_RDONLY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

int mounts_copy(int proc, int to) {
        _cleanup_(cleanup_close) int from = open_mountinfo(proc);
        char buffer[4096];
        uint64_t at = 0;
        ssize_t n = from;

        while (from >= 0 && (n = read(from, buffer, sizeof(buffer))) > 0) {
                int r = at + n > MOUNTS_TEXT_MAX ? -EFBIG : write_at(to, buffer, n, at);

                if (r < 0)
                        return r;
                at += n;
        }
        return from < 0 ? from : n < 0 ? -errno : 0;
}

static char *skip_fields(char *at, int n) {
        for (; n > 0 && at; n--) {
                at = strchr(at, ' ');
                at = at ? at + 1 : NULL;
        }
        return at;
}

static bool is_octal(char c) {
        return c >= '0' && c <= '7';
}

/* A copy of a field at @to, without its escapes, which are octal. Returns what is behind it. */
static char *unescape(const char *from, char *to) {
        while (*from && *from != ' ') {
                if (from[0] == '\\' && is_octal(from[1]) && is_octal(from[2]) && is_octal(from[3])) {
                        *to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
                        from += 4;
                } else {
                        *to++ = *from++;
                }
        }
        *to++ = '\0';
        return to;
}

/* proc(5): id, parent, device, root, point, options, optional fields, "-", type, and more. */
static bool parse_line(char *line, char **names, struct mount *m) {
        char *point = skip_fields(line, 4), *rest = point ? strstr(point, " - ") : NULL, *options;

        if (!rest)
                return false;
        m->line = line;
        m->point = *names;
        *names = unescape(point, *names);
        options = skip_fields(point, 1);
        m->read_only = strncmp(options, "ro", 2) == 0 && (options[2] == ',' || options[2] == ' ');
        m->type = *names;
        *names = unescape(rest + 3, *names);
        return true;
}

static int parse(struct mounts *m) {
        size_t lines = 0;
        char *names;

        for (const char *p = m->text; *p; p++)
                lines += *p == '\n';
        m->list = calloc(lines + 1, sizeof(*m->list));
        m->names = names = malloc(strlen(m->text) + 2 * lines + 1);
        if (!m->list || !m->names)
                return -ENOMEM;
        for (char *next, *line = m->text; (next = strchr(line, '\n')); line = next + 1) {
                *next = '\0';
                if (!parse_line(line, &names, &m->list[m->n++]))
                        return -EPROTO;
        }
        return 0;
}

static int read_text(struct mounts *m, int fd) {
        size_t len = 0;
        ssize_t n;

        m->text = malloc(MOUNTS_TEXT_MAX + 1);
        if (!m->text)
                return -ENOMEM;
        while ((n = pread(fd, m->text + len, MOUNTS_TEXT_MAX - len, len)) > 0)
                len += n;
        if (n < 0)
                return -errno;
        if (len == MOUNTS_TEXT_MAX)
                return -EFBIG;
        m->text[len] = '\0';
        return 0;
}

int mounts_read_file(struct mounts *m, int fd) {
        int r;

        *m = (struct mounts)MOUNTS_INIT;
        r = read_text(m, fd);
        if (r == 0)
                r = parse(m);
        if (r < 0)
                mounts_deinit(m);
        return r;
}

int mounts_read(struct mounts *m, int proc) {
        _cleanup_(cleanup_close) int fd = open_mountinfo(proc);

        *m = (struct mounts)MOUNTS_INIT;
        return fd < 0 ? fd : mounts_read_file(m, fd);
}

void mounts_deinit(struct mounts *m) {
        free(m->list);
        free(m->names);
        free(m->text);
        *m = (struct mounts)MOUNTS_INIT;
}

/* The first field of a line, the number of a mount. */
static bool is_same_mount(const char *a, const char *b) {
        return atoi(a) == atoi(b);
}

const struct mount *mounts_find(const struct mounts *m, const struct mount *same) {
        for (size_t i = 0; i < m->n; i++)
                if (is_same_mount(m->list[i].line, same->line))
                        return &m->list[i];
        return NULL;
}

/* 1: the newest of the new ones is gone, and there may be more. 0: there are none. */
static int undo_one(const struct mounts *noted, const struct mounts *now, char *what, size_t size) {
        for (size_t i = now->n; i > 0; i--) {
                const struct mount *m = &now->list[i - 1];

                if (mounts_find(noted, m))
                        continue;
                snprintf(what, size, "%s", m->point);
                return umount2(m->point, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 1;
        }
        return 0;
}

static int compare(const struct mounts *noted, const struct mounts *now, char *what, size_t size) {
        for (size_t i = 0; i < noted->n; i++) {
                const struct mount *m = mounts_find(now, &noted->list[i]);

                if (m && strcmp(m->line, noted->list[i].line) == 0)
                        continue;
                snprintf(what, size, "%s", noted->list[i].point);
                return m ? -ESTALE : -ENOENT;
        }
        return 0;
}

int mounts_undo(int proc, int noted_fd, char *what, size_t size) {
        struct mounts noted, now = MOUNTS_INIT;
        int r = mounts_read_file(&noted, noted_fd);

        *what = '\0';
        for (int i = 0; r == 0 && i < UNDO_ROUNDS; i++) {
                mounts_deinit(&now);
                r = mounts_read(&now, proc);
                if (r == 0)
                        r = undo_one(&noted, &now, what, size);
                if (r == 0)
                        break;
                r = r < 0 ? r : i + 1 == UNDO_ROUNDS ? -ELOOP : 0;
        }
        if (r == 0)
                r = compare(&noted, &now, what, size);
        mounts_deinit(&now);
        mounts_deinit(&noted);
        return r;
}
