/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "check.h"
#include "pool/util/io.h"
#include "pool/util/trust.h"

static struct check_dir dir;
static char text[RESULT_TEXT_MAX];

/* What opening @path below the directory gives; the path without links, or the reason, is in `text`. */
static int try(const char *path) {
        char whole[PATH_MAX], *real = NULL;
        struct result why = {};
        struct stat st, same;
        int fd;

        snprintf(whole, sizeof(whole), "%s/%s", dir.path, path);
        fd = open_trusted(whole, &real, &why);
        snprintf(text, sizeof(text), "%s", fd < 0 ? why.text : real);
        if (fd >= 0) {
                CHECK(fstat(fd, &st) == 0 && stat(real, &same) == 0 && st.st_ino == same.st_ino);
                close(fd);
        }
        free(real);
        return fd < 0 ? fd : 0;
}

static const char *at(const char *path) {
        static char whole[PATH_MAX];

        snprintf(whole, sizeof(whole), "%s%s%s", dir.path, *path ? "/" : "", path);
        return whole;
}

static void mode(const char *path, mode_t m) {
        CHECK_INT(fchmodat(dir.fd, path, m, 0), 0);
}

static void missing_parts_are_made(void) {
        struct stat st;

        umask(0);
        CHECK_INT(try("a//b/./c/"), 0);
        CHECK_STR(text, at("a/b/c"));
        CHECK(fstatat(dir.fd, "a/b", &st, 0) == 0 && (st.st_mode & 07777) == 0700);
        CHECK_INT(try("a/b/../../a"), 0);
        CHECK_STR(text, at("a"));
        CHECK_INT(try(""), 0);
        CHECK_STR(text, at(""));
        CHECK_INT(remove_tree(dir.fd, "a"), 0);
}

static void modes(void) {
        CHECK_INT(try("a/b"), 0);
        mode("a", 0755);
        CHECK_INT(try("a/b"), 0);
        mode("a", 01777); /* as /var/tmp */
        CHECK_INT(try("a/b"), 0);
        mode("a", 0777);
        CHECK_INT(try("a/b"), -EPERM);
        CHECK(strstr(text, at("a")) == text && strstr(text, "can be written by other users"));
        mode("a", 0711);
        CHECK_INT(try("a/b"), 0);
        mode("a/b", 0750);
        CHECK_INT(try("a/b"), -EPERM);
        CHECK(strstr(text, at("a/b")) == text && strstr(text, "chmod go-rwx"));
        CHECK_INT(remove_tree(dir.fd, "a"), 0);
}

/* Links of root and of the user count as what they lead to. */
static void links(void) {
        CHECK_INT(try("a/b"), 0);
        CHECK_INT(symlinkat("a", dir.fd, "relative"), 0);
        CHECK_INT(symlinkat(at("a"), dir.fd, "absolute"), 0);
        CHECK_INT(symlinkat("../relative/../a", dir.fd, "a/up"), 0);
        CHECK_INT(symlinkat("loop", dir.fd, "loop"), 0);
        CHECK_INT(try("relative/b"), 0);
        CHECK_STR(text, at("a/b"));
        CHECK_INT(try("absolute/b"), 0);
        CHECK_STR(text, at("a/b"));
        CHECK_INT(try("a/up/b"), 0);
        CHECK_STR(text, at("a/b"));
        CHECK_INT(try("loop/b"), -ELOOP);
        close(openat(dir.fd, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        CHECK_INT(try("file/b"), -ENOTDIR);
        for (const char *const *name = (const char *const[]){ "a", "relative", "absolute", "loop", "file", NULL }; *name; name++)
                CHECK_INT(remove_tree(dir.fd, *name), 0);
}

/* What another user could have made is not entered, nor a link of theirs followed. */
static void other_owners(void) {
        if (geteuid() != 0)
                return; /* cannot give anything away */
        CHECK_INT(try("a/b"), 0);
        CHECK_INT(symlinkat("a", dir.fd, "link"), 0);
        CHECK_INT(fchownat(dir.fd, "link", 12345, -1, AT_SYMLINK_NOFOLLOW), 0);
        CHECK_INT(try("link/b"), -EPERM);
        CHECK(strstr(text, at("link")) == text && strstr(text, "user 12345"));
        CHECK_INT(fchownat(dir.fd, "a/b", 12345, -1, 0), 0);
        CHECK_INT(try("a/b"), -EPERM);
        CHECK(strstr(text, at("a/b")) == text && strstr(text, "belongs to user 12345"));
        CHECK_INT(try("a/b/c"), -EPERM);
        CHECK(faccessat(dir.fd, "a/b/c", F_OK, 0) < 0);
        CHECK_INT(remove_tree(dir.fd, "link"), 0);
        CHECK_INT(remove_tree(dir.fd, "a"), 0);
}

int main(void) {
        dir = check_dir_make();
        RUN(missing_parts_are_made);
        RUN(modes);
        RUN(links);
        RUN(other_owners);
        check_dir_remove(&dir);
        return check_done();
}
