/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Checks that print TAP. A failed check is told with its place and its two
 * values, the test goes on and is "not ok"; check_done() is main's answer.
 */

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Weak: one for all files of a test program, so that a check in any of them counts. */
__attribute__((weak)) unsigned check_number, check_failures;
__attribute__((weak)) bool check_failed_now;

#define CHECK(condition)                                                                                               \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition);                                       \
                        check_failed_now = true;                                                                       \
                }                                                                                                      \
        } while (0)

#define CHECK_INT(got, expected)                                                                                       \
        do {                                                                                                           \
                int64_t got_ = (int64_t)(got), expected_ = (int64_t)(expected);                                        \
                if (got_ != expected_) {                                                                               \
                        printf("# %s:%d: %s is %" PRId64 ", expected %" PRId64 "\n", __FILE__, __LINE__, #got, got_,   \
                               expected_);                                                                             \
                        check_failed_now = true;                                                                       \
                }                                                                                                      \
        } while (0)

#define CHECK_STR(got, expected)                                                                                       \
        do {                                                                                                           \
                const char *got_ = (got), *expected_ = (expected);                                                     \
                if (!got_ || strcmp(got_, expected_)) {                                                                \
                        printf("# %s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #got,                   \
                               got_ ? got_ : "(null)", expected_);                                                     \
                        check_failed_now = true;                                                                       \
                }                                                                                                      \
        } while (0)

/* In a child, so the test goes on. */
#define CHECK_ABORTS(statement)                                                                                        \
        do {                                                                                                           \
                int status_ = 0;                                                                                       \
                pid_t child_ = check_fork();                                                                           \
                                                                                                                       \
                if (child_ == 0) {                                                                                     \
                        statement;                                                                                     \
                        _exit(0);                                                                                      \
                }                                                                                                      \
                CHECK_INT(waitpid(child_, &status_, 0), child_);                                                       \
                if (!WIFSIGNALED(status_) || WTERMSIG(status_) != SIGABRT) {                                           \
                        printf("# %s:%d: %s does not abort\n", __FILE__, __LINE__, #statement);                        \
                        check_failed_now = true;                                                                       \
                }                                                                                                      \
        } while (0)

#define RUN(test) check_run(#test, test)

/* A child that leaves no core file and does not say what is buffered here. */
static inline pid_t check_fork(void) {
        pid_t child;

        fflush(NULL);
        child = fork();
        if (child == 0)
                (void)setrlimit(RLIMIT_CORE, &(struct rlimit){});
        return child;
}

/* See pool/util/transition.h. */
__attribute__((constructor)) static void check_strictly(void) {
        setenv("MODALPOOL_STRICT", "1", 1);
}

static inline void check_run(const char *name, void (*test)(void)) {
        check_failed_now = false;
        test();
        check_failures += check_failed_now;
        printf("%s %u - %s\n", check_failed_now ? "not ok" : "ok", ++check_number, name);
        fflush(stdout);
}

static inline int check_done(void) {
        printf("1..%u\n", check_number);
        return check_failures > 0;
}

/* A new empty directory, and its path in @path; check_dir_remove() takes both away when it is empty again. */
struct check_dir {
        char path[64];
        int fd;
};

static inline struct check_dir check_dir_make(void) {
        struct check_dir d = { .path = "/tmp/modalpool-unit-XXXXXX" };

        d.fd = mkdtemp(d.path) ? open(d.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        if (d.fd < 0) {
                perror("mkdtemp");
                exit(99);
        }
        return d;
}

static inline unsigned check_dir_entries(const struct check_dir *d) {
        DIR *stream = opendir(d->path);
        unsigned n = 0;

        if (!stream)
                return UINT32_MAX;
        for (struct dirent *e; (e = readdir(stream));)
                n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
        closedir(stream);
        return n;
}

static inline void check_dir_remove(struct check_dir *d) {
        close(d->fd);
        CHECK_INT(rmdir(d->path), 0);
}
