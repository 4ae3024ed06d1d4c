/* SPDX-License-Identifier: MIT */
#include "pool/util/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/util/cleanup.h"

#define LINKS_MAX 40 /* as the kernel's own */

struct walk {
        int fd;              /* the directory reached so far, opened with O_PATH … */
        char real[PATH_MAX]; /* … and its path, without links; "" is the root */
        char rest[PATH_MAX]; /* the rest of the path */
        unsigned links;
        struct result *why;
};

static int refuse(struct walk *w, const char *what) {
        result_set(w->why, RESULT_FAILED, "%s %s", *w->real ? w->real : "/", what);
        return -EPERM;
}

static int refuse_errno(struct walk *w, int error) {
        result_set(w->why, RESULT_FAILED, "%s: %s", *w->real ? w->real : "/", strerror(error));
        return -error;
}

static int refuse_owner(struct walk *w, uid_t uid) {
        char text[64];

        snprintf(text, sizeof(text), "belongs to user %u", (unsigned)uid);
        return refuse(w, text);
}

/*
 * Root's group, or a user's private group: it has the user's name and no other member. With such a primary group, the
 * usual umask lets the group write (pam_umask(8), usergroups).
 */
static bool is_private_group(gid_t gid) {
        const struct passwd *user = getpwuid(geteuid());
        const struct group *group = getgrgid(gid);

        return gid == 0 || (user && group && user->pw_gid == gid && !strcmp(user->pw_name, group->gr_name) &&
                            !*group->gr_mem);
}

static bool is_trusted_owner(uid_t uid) {
        return uid == 0 || uid == geteuid();
}

static int check_directory(struct walk *w, int fd) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return refuse_errno(w, errno);
        if (!is_trusted_owner(st.st_uid))
                return refuse_owner(w, st.st_uid);
        if (!(st.st_mode & S_ISVTX) &&
            ((st.st_mode & S_IWOTH) || ((st.st_mode & S_IWGRP) && !is_private_group(st.st_gid))))
                return refuse(w, "can be written by other users (chmod go-w)");
        return 0;
}

static int start_at_root(struct walk *w) {
        close_fd(w->fd);
        w->real[0] = '\0';
        w->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return w->fd < 0 ? refuse_errno(w, errno) : check_directory(w, w->fd);
}

/* Put the link's target in its place. */
static int follow(struct walk *w, const char *name, uid_t uid, const char *path) {
        char target[PATH_MAX], rest[PATH_MAX];
        ssize_t n;
        int r = 0;

        if (!is_trusted_owner(uid)) {
                result_set(w->why, RESULT_FAILED, "%s is a link of user %u", path, (unsigned)uid);
                return -EPERM;
        }
        n = readlinkat(w->fd, name, target, sizeof(target) - 1);
        if (n < 0)
                return refuse_errno(w, errno);
        if (++w->links > LINKS_MAX)
                return refuse_errno(w, ELOOP);
        target[n] = '\0';
        if (snprintf(rest, sizeof(rest), "%s/%s", target, w->rest) >= (int)sizeof(rest))
                return refuse_errno(w, ENAMETOOLONG);
        if (*target == '/')
                r = start_at_root(w);
        strcpy(w->rest, rest);
        return r;
}

static int go_up(struct walk *w) {
        int fd = openat(w->fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return refuse_errno(w, errno);
        close(w->fd);
        w->fd = fd;
        if (*w->real)
                *strrchr(w->real, '/') = '\0';
        return check_directory(w, w->fd);
}

static int go_down(struct walk *w, const char *name) {
        char path[PATH_MAX];
        struct stat st = {};
        int fd;

        if (snprintf(path, sizeof(path), "%s/%s", w->real, name) >= (int)sizeof(path))
                return refuse_errno(w, ENAMETOOLONG);
        if (fstatat(w->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
            (errno != ENOENT || (mkdirat(w->fd, name, 0700) < 0 && errno != EEXIST))) {
                int error = errno;

                result_set(w->why, RESULT_FAILED, "%s: %s", path, strerror(error));
                return -error;
        }
        if (S_ISLNK(st.st_mode))
                return follow(w, name, st.st_uid, path);
        strcpy(w->real, path);
        fd = openat(w->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return refuse_errno(w, errno);
        close(w->fd);
        w->fd = fd;
        return check_directory(w, w->fd);
}

/* Take the next part from the rest of the path. False: there is none. */
static bool take_name(struct walk *w, char name[PATH_MAX]) {
        const char *begin = w->rest + strspn(w->rest, "/");
        size_t len = strcspn(begin, "/");

        memcpy(name, begin, len);
        name[len] = '\0';
        memmove(w->rest, begin + len, strlen(begin + len) + 1);
        return len > 0;
}

static int check_last(struct walk *w) {
        struct stat st;

        if (fstat(w->fd, &st) < 0)
                return refuse_errno(w, errno);
        if (st.st_uid != geteuid())
                return refuse_owner(w, st.st_uid);
        if (st.st_mode & 077)
                return refuse(w, "is open to other users (chmod go-rwx)");
        return 0;
}

/* The last directory of the path, opened for reading. */
static int arrive(struct walk *w, char **real) {
        int fd, r = check_last(w);

        if (r < 0)
                return r;
        fd = openat(w->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return refuse_errno(w, errno);
        *real = strdup(*w->real ? w->real : "/");
        if (!*real) {
                close(fd);
                return refuse_errno(w, ENOMEM);
        }
        return fd;
}

int open_trusted(const char *path, char **real, struct result *why) {
        struct walk w = { .fd = -1, .why = why };
        char name[PATH_MAX];
        int r = start_at_root(&w);

        if (r == 0 && snprintf(w.rest, sizeof(w.rest), "%s", path) >= (int)sizeof(w.rest))
                r = refuse_errno(&w, ENAMETOOLONG);
        while (r == 0 && take_name(&w, name))
                if (!strcmp(name, ".."))
                        r = go_up(&w);
                else if (strcmp(name, "."))
                        r = go_down(&w, name);
        if (r == 0)
                r = arrive(&w, real);
        close_fd(w.fd);
        return r;
}
