/* SPDX-License-Identifier: MIT */
#include "fs/client/job-files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/client/limits.h"
#include "pool/util/cleanup.h"

static char *join(const char *dir, const char *name) {
        char *path;

        return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* Append what a file has to @out. 0 or -errno. */
static int read_text(const char *path, struct buf *out) {
        _cleanup_(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
        char piece[4096];
        ssize_t n;
        int r = 0;

        if (fd < 0)
                return -errno;
        while (r == 0 && (n = read(fd, piece, sizeof(piece))) != 0)
                r = n < 0 ? -errno : buf_append(out, piece, n);
        return r;
}

static int write_text(const char *path, const void *data, size_t len) {
        _cleanup_(cleanup_close) int fd = open(path, O_WRONLY | O_CLOEXEC);

        while (fd >= 0 && len > 0) {
                ssize_t n = write(fd, data, len);

                if (n < 0)
                        return -errno;
                data = (const char *)data + n;
                len -= n;
        }
        /* Settings are checked at close if their last line is not complete. */
        return fd < 0 || close(TAKE_FD(fd)) < 0 ? -errno : 0;
}

static bool is_lost_mount(int r) {
        return r == -ENOTCONN || r == -ECONNABORTED;
}

/* What the file `error` of a directory says, or "". */
static const char *remark(const char *dir, struct buf *text) {
        _cleanup_(cleanup_free) char *path = join(dir, "error");

        if (!path || read_text(path, text) < 0 || !strcmp(buf_text(text), "ok\n"))
                return "";
        return buf_text(text);
}

/* @path could not be used, and in @dir it may be written why. */
static void explain(const char *path, const char *dir, int r, struct result *why) {
        struct buf text = BUF_INIT(TEXT_SIZE_MAX);
        const char *said = is_lost_mount(r) || r == -ENOMEM ? "" : remark(dir, &text);

        if (is_lost_mount(r))
                result_set(why, RESULT_LOST, "%s: the mount is gone: its daemon has ended", path);
        else
                result_set(why, RESULT_FAILED, "%s: %s%s%s", path, strerror(-r), *said ? ": " : "", said);
        buf_deinit(&text);
}

void job_files_explain(const struct job_files *f, const char *name, int r, struct result *why) {
        _cleanup_(cleanup_free) char *path = join(f->job, name);
        struct buf text = BUF_INIT(TEXT_SIZE_MAX);

        /* What was refused stands in the lease's, how the job ended in its own. */
        explain(path ?: name, *remark(f->job, &text) ? f->job : f->lease, r, why);
        buf_deinit(&text);
}

/* 0 if @dir has a directory of that name, or -errno. */
static int check_directory(const char *dir, const char *name) {
        _cleanup_(cleanup_free) char *path = join(dir, name);
        struct stat st;

        if (!path)
                return -ENOMEM;
        if (stat(path, &st) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* Make a directory in @dir with a name that is not taken. 0 or -errno. */
static int make_directory(const char *dir, char **out) {
        uint64_t number;
        char name[sizeof("run-") + 16];
        int r;

        do {
                if (getrandom(&number, sizeof(number), 0) != sizeof(number))
                        return -EIO;
                snprintf(name, sizeof(name), "run-%016" PRIx64, number);
                *out = join(dir, name);
                if (!*out)
                        return -ENOMEM;
                if (mkdir(*out, 0700) == 0)
                        return 0;
                r = -errno;
                free(TAKE_PTR(*out));
        } while (r == -EEXIST);
        return r;
}

static int make_lease(struct job_files *f, const char *pool, struct result *why) {
        int r = make_directory(pool, &f->lease);

        f->lease_is_ours = r == 0;
        if (r == -EAGAIN)
                result_set(why, RESULT_BUSY, "%s: the pool drains, or is full: it has as many leases as max_leases allows", pool);
        else if (r < 0)
                explain(pool, pool, r, why);
        return r;
}

static int find_lease(struct job_files *f, const char *dir, struct result *why) {
        int r;

        /* First, as a pool may have a lease of the other name. */
        if (check_directory(dir, ".pool") == 0)
                return make_lease(f, dir, why);
        r = check_directory(dir, "jobs");
        if (r == 0) {
                f->lease = strdup(dir);
                return f->lease ? 0 : -ENOMEM;
        }
        if (r != -ENOENT && r != -ENOTDIR)
                explain(dir, dir, r, why);
        else if (access(dir, F_OK) < 0)
                result_set(why, RESULT_INVALID, "%s: there is no such lease or pool", dir);
        else
                result_set(why, RESULT_INVALID, "%s: neither a lease nor a pool", dir);
        return r;
}

int job_files_make(struct job_files *f, const char *dir, struct result *why) {
        _cleanup_(cleanup_free) char *jobs = NULL;
        int r;

        *f = (struct job_files){};
        result_set(why, RESULT_FAILED, "out of memory");
        r = find_lease(f, dir, why);
        if (r < 0)
                return r;
        jobs = join(f->lease, "jobs");
        r = jobs ? make_directory(jobs, &f->job) : -ENOMEM;
        if (r == -EAGAIN)
                result_set(why, RESULT_BUSY, "%s: as many jobs wait there, or are kept, as a lease may have", dir);
        else if (r < 0)
                explain(f->lease, f->lease, r, why);
        if (r < 0)
                job_files_remove(f);
        return r;
}

int job_files_write(const struct job_files *f, const char *name, const void *data, size_t len, struct result *why) {
        _cleanup_(cleanup_free) char *path = join(f->job, name);
        int r = path ? write_text(path, data, len) : -ENOMEM;

        if (r < 0)
                job_files_explain(f, name, r, why);
        return r;
}

void job_files_control(const struct job_files *f, const char *line) {
        struct result ignored;

        (void)job_files_write(f, "ctl", line, strlen(line), &ignored);
}

int job_files_read(const struct job_files *f, const char *name, struct buf *out, struct result *why) {
        _cleanup_(cleanup_free) char *path = join(f->job, name);
        int r = path ? read_text(path, out) : -ENOMEM;

        if (r < 0)
                job_files_explain(f, name, r, why);
        return r;
}

int job_files_open(const struct job_files *f, const char *name, int flags, struct result *why) {
        _cleanup_(cleanup_free) char *path = join(f->job, name);
        int fd = path ? open(path, flags | O_NONBLOCK | O_CLOEXEC) : -1, r = path ? -errno : -ENOMEM;

        if (fd >= 0)
                return fd;
        job_files_explain(f, name, r, why);
        return r;
}

bool job_files_is_running(const struct job_files *f) {
        struct buf text = BUF_INIT(TEXT_SIZE_MAX);
        struct result ignored;
        bool runs = job_files_read(f, "status", &text, &ignored) == 0 &&
                    (!strncmp(buf_text(&text), "state running\n", 14) || !strncmp(buf_text(&text), "state starting\n", 15));

        buf_deinit(&text);
        return runs;
}

void job_files_remove(struct job_files *f) {
        if (f->job)
                (void)rmdir(f->job);
        if (f->lease && f->lease_is_ours)
                (void)rmdir(f->lease);
        free(f->job);
        free(f->lease);
        *f = (struct job_files){};
}
