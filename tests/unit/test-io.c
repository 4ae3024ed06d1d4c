/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "pool/util/io.h"

static struct check_dir dir;

static void touch(int at, const char *name) {
        int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL, 0600);

        CHECK(fd >= 0);
        close(fd);
}

static bool exists(const char *name) {
        return faccessat(dir.fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void whole_reads_and_writes(void) {
        int fd = openat(dir.fd, "f", O_RDWR | O_CREAT, 0600);
        char data[10] = "";

        CHECK_INT(write_at(fd, "hello", 5, 3), 0);
        CHECK_INT(write_at(fd, "HE", 2, 3), 0);
        CHECK_INT(write_at(fd, "", 0, 100), 0);
        CHECK_INT(read_at(fd, data, 10, 0), 8);
        CHECK(!memcmp(data, "\0\0\0HEllo", 8));
        CHECK_INT(read_at(fd, data, 2, 4), 2);
        CHECK(!memcmp(data, "El", 2));
        CHECK_INT(read_at(fd, data, 10, 8), 0);
        CHECK_INT(read_at(fd, data, 10, 1000), 0);
        CHECK_INT(write_at(-1, "x", 1, 0), -EBADF);
        CHECK_INT(read_at(-1, data, 1, 0), -EBADF);
        CHECK_INT(read_at(dir.fd, data, 1, 0), -EISDIR);
        close(fd);
        CHECK_INT(remove_tree(dir.fd, "f"), 0);
        CHECK(!exists("f"));
}

/* A disk that takes a part of what is appended keeps none of it. */
static void append_to_a_full_disk(void) {
        int fd = openat(dir.fd, "f", O_RDWR | O_CREAT, 0600);
        struct rlimit old, tight;
        char data[10];

        CHECK_INT(append_at(fd, "12", 2, 0), 0);
        CHECK_INT(getrlimit(RLIMIT_FSIZE, &old), 0);
        tight = (struct rlimit){ 4, old.rlim_max };
        signal(SIGXFSZ, SIG_IGN);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &tight), 0);
        CHECK_INT(append_at(fd, "345", 3, 2), -EFBIG);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &old), 0);
        CHECK_INT(read_at(fd, data, sizeof(data), 0), 2);
        CHECK_INT(append_at(fd, "345", 3, 2), 0);
        CHECK_INT(read_at(fd, data, sizeof(data), 0), 5);
        CHECK(!memcmp(data, "12345", 5));
        close(fd);
        CHECK_INT(remove_tree(dir.fd, "f"), 0);
}

static void paths(void) {
        struct stat st;

        CHECK_INT(make_path(dir.fd, "a/b/c", 0750), 0);
        CHECK_INT(fstatat(dir.fd, "a/b/c", &st, 0), 0);
        CHECK_INT(st.st_mode & 07777, 0750);
        CHECK_INT(make_path(dir.fd, "a/b/c", 0700), 0); /* there already */
        CHECK_INT(make_path(dir.fd, "a//b/d/", 0700), 0);
        CHECK(exists("a/b/d"));
        CHECK_INT(make_path(dir.fd, "", 0700), -ENOENT);
        CHECK_INT(make_path(dir.fd, "/", 0700), 0);
        touch(dir.fd, "a/file");
        CHECK_INT(make_path(dir.fd, "a/file", 0700), -ENOTDIR);
        CHECK_INT(make_path(dir.fd, "a/file/x", 0700), -ENOTDIR);
        CHECK_INT(remove_tree(dir.fd, "a"), 0);
        CHECK(!exists("a"));
}

static void absolute_path(void) {
        char path[100];

        snprintf(path, sizeof(path), "%s/x/y", dir.path);
        CHECK_INT(make_path(AT_FDCWD, path, 0700), 0);
        CHECK(exists("x/y"));
        CHECK_INT(remove_tree(dir.fd, "x"), 0);
}

/* As a user, for whom modes mean something. */
static void remove_whatever(void) {
        bool root = geteuid() == 0;

        if (root) {
                CHECK_INT(fchown(dir.fd, 65534, 65534), 0);
                CHECK_INT(seteuid(65534), 0);
        }
        CHECK_INT(make_path(dir.fd, "keep", 0700), 0);
        touch(dir.fd, "keep/file");
        CHECK_INT(make_path(dir.fd, "t/sub/deep", 0700), 0);
        CHECK_INT(make_path(dir.fd, "t/.hidden", 0700), 0);
        touch(dir.fd, "t/sub/deep/file");
        touch(dir.fd, "t/.dot");
        touch(dir.fd, "t/new\nline");
        CHECK_INT(symlinkat("../keep", dir.fd, "t/link"), 0);
        CHECK_INT(symlinkat("nowhere", dir.fd, "t/sub/broken"), 0);
        CHECK_INT(mkfifoat(dir.fd, "t/fifo", 0), 0);
        CHECK_INT(fchmodat(dir.fd, "t/sub/deep", 0, 0), 0);
        CHECK_INT(fchmodat(dir.fd, "t/sub", 0500, 0), 0);
        CHECK_INT(fchmodat(dir.fd, "t", 0100, 0), 0);
        CHECK_INT(remove_tree(dir.fd, "t"), 0);
        CHECK(!exists("t"));
        CHECK(exists("keep/file")); /* links are not followed */
        CHECK_INT(remove_tree(dir.fd, "t"), 0);
        CHECK_INT(remove_tree(dir.fd, "keep"), 0);
        if (root)
                CHECK_INT(seteuid(0), 0);
}

static void remove_link_to_directory(void) {
        CHECK_INT(make_path(dir.fd, "real", 0700), 0);
        touch(dir.fd, "real/file");
        CHECK_INT(symlinkat("real", dir.fd, "link"), 0);
        CHECK_INT(remove_tree(dir.fd, "link"), 0);
        CHECK(!exists("link") && exists("real/file"));
        CHECK_INT(remove_tree(dir.fd, "real"), 0);
}

static void remove_many(void) {
        char name[32];
        int fd;

        CHECK_INT(make_path(dir.fd, "many", 0700), 0);
        for (int i = 0; i < 2000; i++) {
                snprintf(name, sizeof(name), "many/%d", i);
                touch(dir.fd, name);
        }
        fd = openat(dir.fd, "many", O_RDONLY | O_DIRECTORY);
        CHECK_INT(remove_contents(fd), 0);
        close(fd);
        CHECK(exists("many"));
        CHECK_INT(unlinkat(dir.fd, "many", AT_REMOVEDIR), 0);
}

/* Directories inside each other, @depth of them. */
/* Several at the same tree: what one finds gone is removed, too. */
static void remove_together(void) {
        enum {
                ROUNDS = 4,
                WIDTH = 15,
                PROCESSES = 4,
        };
        int go[2], status;
        char name[32];

        for (int round = 0; round < ROUNDS; round++) {
                for (int i = 0; i < WIDTH * WIDTH; i++) {
                        snprintf(name, sizeof(name), "t/%d/%d/x", i / WIDTH, i % WIDTH);
                        CHECK_INT(make_path(dir.fd, name, 0700), 0);
                }
                CHECK_INT(pipe(go), 0);
                for (int i = 0; i < PROCESSES; i++)
                        if (fork() == 0) {
                                close(go[1]);
                                (void)!read(go[0], name, 1); /* all at once */
                                _exit(-remove_tree(dir.fd, "t"));
                        }
                close(go[0]);
                close(go[1]);
                for (int i = 0; i < PROCESSES; i++) {
                        CHECK(wait(&status) > 0 && WIFEXITED(status));
                        CHECK_INT(WEXITSTATUS(status), 0);
                }
                CHECK(!exists("t"));
        }
}

static void make_deep(int depth) {
        int at = dup(dir.fd), next;

        for (int i = 0; i < depth; i++) {
                CHECK_INT(mkdirat(at, "d", 0700), 0);
                next = openat(at, "d", O_RDONLY | O_DIRECTORY);
                close(at);
                at = next;
        }
        close(at);
}

static void remove_deep(void) {
        struct rlimit many = { 4096, 4096 };

        CHECK_INT(setrlimit(RLIMIT_NOFILE, &many), 0);
        make_deep(500);
        CHECK_INT(remove_tree(dir.fd, "d"), 0);
        CHECK(!exists("d"));
        make_deep(510);
        CHECK_INT(remove_tree(dir.fd, "d"), -ELOOP);
        CHECK(exists("d"));
        CHECK_INT(renameat(dir.fd, "d/d/d/d/d/d/d/d/d/d", dir.fd, "rest"), 0); /* in two parts it goes */
        CHECK_INT(remove_tree(dir.fd, "d"), 0);
        CHECK_INT(remove_tree(dir.fd, "rest"), 0);
}

int main(void) {
        dir = check_dir_make();
        RUN(whole_reads_and_writes);
        RUN(append_to_a_full_disk);
        RUN(paths);
        RUN(absolute_path);
        RUN(remove_whatever);
        RUN(remove_link_to_directory);
        RUN(remove_many);
        RUN(remove_deep);
        RUN(remove_together);
        check_dir_remove(&dir);
        return check_done();
}
