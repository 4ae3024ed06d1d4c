/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/clean.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/helper/agent/compare.h"
#include "pool/helper/agent/ipc.h"
#include "pool/helper/agent/leftovers.h"
#include "pool/helper/agent/mounts.h"
#include "pool/helper/agent/note.h"
#include "pool/helper/agent/origin.h"
#include "pool/helper/agent/path.h"
#include "pool/helper/agent/remove.h"
#include "pool/util/cleanup.h"
#include "pool/util/io.h"

#define ROOM (64 << 10) /* bytes that a lease must be able to write */
#define TRIAL_NAME ".modalpool-trial"

struct cleanup {
        const struct clean_request *request;
        const struct family *reapers;
        const char *workdir, **emptied, **unwatched; /* NULL at the end */
        struct mounts mounts;
        const char **kept;
        struct removal removal;
        struct manifest manifest;
        struct clean_report *report;
};

__attribute__((format(printf, 3, 4))) static int fail(struct cleanup *c, int r, const char *format, ...) {
        char *text = c->report->text;
        size_t size = sizeof(c->report->text), len;
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, size, format, ap);
        va_end(ap);
        len = strlen(text);
        snprintf(text + len, size - len, ": %s", strerror(-r));
        c->report->len = strlen(text);
        c->report->error = -r;
        return r;
}

/* processes, mounts, shared memory */

/* One that is only a directory has no processes and mounts of its own but the helper's. */
static bool has_sandbox(const struct cleanup *c) {
        return c->request->flags & CLEAN_SANDBOX && !*origin.root;
}

static int kill_processes(struct cleanup *c) {
        char names[HELPER_REPORT_MAX / 2];
        int r = leftovers_kill(c->reapers, has_sandbox(c), names, sizeof(names));

        if (r == -ETIMEDOUT)
                return fail(c, r, "processes that do not end: %s", names);
        return r < 0 ? fail(c, r, "looking for processes in /proc") : 0;
}

static bool are_related(const char *a, const char *b) {
        return path_is_within(a, b) || path_is_within(b, a);
}

static bool concerns(const struct cleanup *c, const char *point) {
        if (*c->workdir && are_related(point, c->workdir))
                return true;
        for (const char **path = c->emptied; *path; path++)
                if (are_related(point, *path))
                        return true;
        return false;
}

/* The mounts of others are none of ours, unless they lie where something is to be removed. */
static int check_mounts(struct cleanup *c) {
        struct mounts noted, now;
        int r = mounts_read_file(&noted, origin.mounts);

        if (r == 0)
                r = mounts_read(&now, origin.proc);
        if (r < 0)
                return fail(c, r, "reading what is mounted");
        for (size_t i = 0; i < now.n; i++)
                if (!mounts_find(&noted, &now.list[i]) && concerns(c, now.list[i].point))
                        return fail(c, -EBUSY, "something is mounted at %s", now.list[i].point);
        return 0;
}

static int undo_mounts(struct cleanup *c) {
        char what[ORIGIN_PATH_MAX];
        int r;

        if (!has_sandbox(c))
                return check_mounts(c);
        r = mounts_undo(origin.proc, origin.mounts, what, sizeof(what));
        return r < 0 ? fail(c, r, "what is mounted at %s", what) : 0;
}

static int remove_ipc(struct cleanup *c) {
        int r = has_sandbox(c) ? ipc_remove(origin.time.tv_sec) : 0;

        return r < 0 ? fail(c, r, "removing shared memory") : 0;
}

/* What is mounted, and what is the helper's own, is kept. */
static int find_kept(struct cleanup *c) {
        size_t n = 0;
        int r = mounts_read(&c->mounts, origin.proc);

        if (r < 0)
                return fail(c, r, "reading what is mounted");
        c->kept = calloc(c->mounts.n + 1, sizeof(*c->kept));
        if (!c->kept)
                return fail(c, -ENOMEM, "reading what is mounted");
        for (; n < c->mounts.n; n++)
                c->kept[n] = c->mounts.list[n].point;
        c->kept[n++] = origin.program;
        c->removal.kept = c->kept;
        c->removal.n_kept = n;
        c->removal.own = origin.dir;
        return 0;
}

/* A volume is not looked at, not even where it is to be emptied. */
static int leave_volumes(struct cleanup *c) {
        const char **to = c->emptied;

        if (c->request->kind != HELPER_NOTE && !(c->request->flags & CLEAN_COMPARE))
                return 0;
        for (const char **from = to; *from; from++)
                if (!boundary_is_foreign(&c->mounts, *from))
                        *to++ = *from;
        *to = NULL;
        return 0;
}

/* files */

/* Commands that were too long for an argument, of jobs whose reaper could not remove them. */
static int remove_scripts(struct cleanup *c) {
        DIR *d = opendir(origin.dir);
        struct dirent *e;
        int r = d ? 0 : -errno;

        while (r == 0 && (e = readdir(d)))
                if (strncmp(e->d_name, "job-", 4) == 0 && unlinkat(dirfd(d), e->d_name, 0) < 0)
                        r = -errno;
        if (d)
                closedir(d);
        return r < 0 ? fail(c, r, "removing scripts in %s", origin.dir) : 0;
}

static int remove_files(struct cleanup *c) {
        int r = *c->workdir ? remove_path(&c->removal, c->workdir) : 0;

        for (const char **path = c->emptied; r == 0 && *path; path++) {
                r = remove_inside(&c->removal, *path);
                if (r == -ENOTDIR && c->request->flags & CLEAN_COMPARE)
                        r = 0; /* something else is where a directory above it was: that is noticed */
        }
        return r < 0 ? fail(c, r, "removing %s", c->removal.what) : 0;
}

/* A file can be written, read back, and removed. */
static int try_file(int dir) {
        static char written[ROOM], read[ROOM];
        _cleanup_(cleanup_close) int fd =
                openat(dir, TRIAL_NAME, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r;

        if (fd < 0)
                return -errno;
        memset(written, 0xa5, sizeof(written));
        r = write_at(fd, written, sizeof(written), 0);
        if (r == 0 && read_at(fd, read, sizeof(read), 0) != sizeof(read))
                r = -EIO;
        if (r == 0 && memcmp(written, read, sizeof(read)) != 0)
                r = -EIO;
        if (unlinkat(dir, TRIAL_NAME, 0) < 0 && r == 0)
                r = -errno;
        return r;
}

static int try_directory(const char *path, mode_t mode) {
        const char *name;
        _cleanup_(cleanup_close) int parent = path_open_parent(path, true, &name), dir = -1;

        if (parent < 0)
                return parent;
        if (mkdirat(parent, name, 0700) == 0) {
                if (fchmodat(parent, name, mode, 0) < 0)
                        return -errno;
        } else if (errno != EEXIST) {
                return -errno;
        }
        dir = path_open(path, false);
        return dir < 0 ? dir : try_file(dir);
}

static int try_files(struct cleanup *c) {
        int r = *c->emptied ? try_directory(*c->emptied, 01777) : 0;

        if (r < 0)
                return fail(c, r, "writing a file in %s", *c->emptied);
        if (!*c->workdir)
                return 0;
        r = try_directory(c->workdir, 0755);
        if (r < 0)
                return fail(c, r, "writing a file in %s", c->workdir);
        r = remove_path(&c->removal, c->workdir);
        return r < 0 ? fail(c, r, "removing %s", c->removal.what) : 0;
}

/* the note */

static struct boundaries boundaries(const struct cleanup *c) {
        return (struct boundaries){ .mounts = &c->mounts, .emptied = c->emptied, .unwatched = c->unwatched };
}

static int note(struct cleanup *c) {
        struct boundaries b = boundaries(c);
        uint64_t entries, directories;
        char what[ORIGIN_PATH_MAX];
        int r;

        (void)setpriority(PRIO_PROCESS, 0, 19);
        r = note_sandbox(origin.manifest, &b, what, sizeof(what), &entries, &directories);
        if (r < 0)
                return fail(c, r, "noting %s", what);
        c->report->len = snprintf(c->report->text, sizeof(c->report->text),
                                  "%" PRIu64 " entries in %" PRIu64 " directories", entries, directories);
        return 0;
}

static int restore_emptied(struct cleanup *c) {
        struct boundaries b = boundaries(c);
        int r = manifest_open(&c->manifest, origin.manifest);

        if (r < 0)
                return fail(c, r, "there is no note of the sandbox");
        if (c->manifest.head->lists != note_digest_of_lists(&b))
                return fail(c, -EINVAL, "the note was made with other directories");
        r = compare_restore_emptied(&c->manifest, &b, &c->removal);
        return r < 0 ? fail(c, r, "making %s what it was", c->removal.what) : 0;
}

static int compare(struct cleanup *c) {
        struct boundaries b = boundaries(c);
        struct differences d = { .text = c->report->text, .size = sizeof(c->report->text) };
        int r = compare_sandbox(&c->manifest, &b, &c->removal, &d);

        if (r < 0)
                return fail(c, r, "comparing %s", c->removal.what);
        if (d.n == 0)
                return 0;
        c->report->len = d.len;
        c->report->error = ESTALE;
        return -ESTALE;
}

/* the request */

const char *clean_check(struct clean_request *q) {
        char *end = q->strings + q->len, *to = q->strings;
        bool separated = false;

        if (q->flags & ~(q->kind == HELPER_CLEAN ? CLEAN_FLAGS : 0))
                return "CLEAN with flags that are not known";
        if (q->flags & CLEAN_COMPARE && !(q->flags & CLEAN_SANDBOX))
                return "CLEAN with COMPARE, but without SANDBOX";
        if (q->len == 0 || end[-1] != '\0')
                return "CLEAN without its strings";
        for (char *next = q->strings, *path; next < end;) {
                path = next;
                next += strlen(next) + 1;
                if (!*path && (path == q->strings || !separated))
                        separated = path != q->strings;
                else if (!path_normalise(path))
                        return "CLEAN with a path that is none";
                memmove(to, path, strlen(path) + 1);
                to += strlen(to) + 1;
        }
        q->len = to - q->strings;
        return NULL;
}

/* In a sandbox that is only a directory all is in there. */
static const char *below_root(const char *path) {
        char *whole = NULL;

        if (!*origin.root || !*path)
                return path;
        return asprintf(&whole, "%s%s", origin.root, path) < 0 ? NULL : whole;
}

/* A directory that has been behind a link all the time: the path without it, for that is where a walk finds it. */
static const char *without_links(const char *path) {
        _cleanup_(cleanup_close) int fd = path_open(path, false);
        char found[ORIGIN_PATH_MAX];

        return fd >= 0 && path_of(fd, found, sizeof(found)) == 0 ? strdup(found) : path;
}

/* Up to the end, or to one that is "". */
static const char **take_list(const char **next, const char *end) {
        const char **list = calloc((size_t)(end - *next) + 1, sizeof(*list)), *path;
        size_t n = 0;

        while (list && (path = spec_string(next, end)) && *path) {
                list[n] = below_root(path);
                if (!list[n++])
                        return NULL;
        }
        return list;
}

static int take_strings(struct cleanup *c) {
        const char *next = c->request->strings, *end = next + c->request->len;
        bool noted = c->request->kind == HELPER_NOTE || c->request->flags & CLEAN_COMPARE;

        if (noted && *origin.root)
                return fail(c, -EPERM, "the sandbox is only a directory");
        c->workdir = below_root(spec_string(&next, end));
        c->emptied = take_list(&next, end);
        for (size_t i = 0; c->emptied && c->emptied[i]; i++)
                if (!(c->emptied[i] = without_links(c->emptied[i])))
                        c->emptied = NULL;
        c->unwatched = take_list(&next, end);
        return c->workdir && c->emptied && c->unwatched ? 0 : fail(c, -ENOMEM, "reading the request");
}

typedef int step(struct cleanup *c);

static int do_steps(struct cleanup *c, step *const *steps) {
        int r = 0;

        for (; r == 0 && *steps; steps++)
                r = (*steps)(c);
        return r;
}

void clean_do(const struct clean_request *q, const struct family *reapers, struct clean_report *report) {
        static step *const to_clean[] = { take_strings, kill_processes, remove_ipc, undo_mounts, find_kept,
                                          leave_volumes, remove_scripts, remove_files, try_files, NULL };
        static step *const to_compare[] = { restore_emptied, compare, NULL };
        static step *const to_note[] = { take_strings, find_kept, leave_volumes, note, NULL };
        static struct cleanup c;

        c = (struct cleanup){ .request = q, .reapers = reapers, .report = report };
        if (q->kind == HELPER_NOTE)
                do_steps(&c, to_note);
        else if (do_steps(&c, to_clean) == 0 && q->flags & CLEAN_COMPARE)
                do_steps(&c, to_compare);
}
