/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/files/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pool/helper/agent/path.h"
#include "pool/util/cleanup.h"

/* <linux/openat2.h>, which musl's headers do not have */
#ifndef SYS_openat2
#define SYS_openat2 437
#endif

struct open_how {
        uint64_t flags, mode, resolve;
};

#define RESOLVE_NO_MAGICLINKS 2
#define RESOLVE_NO_SYMLINKS 4
#define RESOLVE_IN_ROOT 16

#define DIRECTORY (O_PATH | O_DIRECTORY | O_CLOEXEC)

int place_root = -1;
const char *place_root_path = "";
static bool is_whole; /* the root is that of the process */
static bool has_openat2 = true;

int place_init(const char *root) {
        place_root_path = root;
        is_whole = !*root;
        place_root = open(is_whole ? "/" : root, DIRECTORY);
        return place_root < 0 ? -errno : 0;
}

static int open_in_root(const char *path, uint64_t resolve) {
        struct open_how how = { .flags = DIRECTORY, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve };
        long fd = syscall(SYS_openat2, place_root, path, &how, sizeof(how));

        if (fd < 0 && (errno == ENOSYS || errno == EPERM))
                has_openat2 = false; /* EPERM: some sandboxes' filters say that of what they do not know */
        return fd < 0 ? -errno : (int)fd;
}

/* By one name after another, where there is no openat2(2). */
static int open_names(const char *dir) {
        _cleanup_(cleanup_close) int fd = openat(place_root, ".", DIRECTORY);
        char name[NAME_MAX + 1];

        while (fd >= 0 && *dir) {
                size_t len = strcspn(dir, "/");
                int next;

                if (len > NAME_MAX)
                        return -ENAMETOOLONG;
                memcpy(name, dir, len);
                name[len] = '\0';
                next = openat(fd, name, DIRECTORY | O_NOFOLLOW);
                if (next < 0)
                        return -errno;
                close(fd);
                fd = next;
                dir += len + (dir[len] == '/');
        }
        return fd < 0 ? -errno : TAKE_FD(fd);
}

/* <linux/magic.h>, and some that stand only in the kernel */
static bool is_of_the_kernel(int fd) {
        static const uint32_t magics[] = {
                0x9fa0,     /* proc */
                0x62656572, /* sysfs */
                0x1cd1,     /* devpts */
                0x27e0eb,   /* cgroup */
                0x63677270, /* cgroup2 */
                0x64626720, /* debugfs */
                0x74726163, /* tracefs */
                0x73636673, /* securityfs */
                0x62656570, /* configfs */
                0xcafe4a11, /* bpf */
                0x6165676c, /* pstore */
                0xde5e81e4, /* efivarfs */
                0x42494e4d, /* binfmt_misc */
                0x65735543, /* fusectl */
                0x19800202, /* mqueue */
                0xf97cff8c, /* selinuxfs */
                0x187,      /* autofs */
        };
        struct statfs st;

        if (fstatfs(fd, &st) < 0)
                return true;
        for (size_t i = 0; i < sizeof(magics) / sizeof(*magics); i++)
                if ((uint32_t)st.f_type == magics[i])
                        return true;
        return false;
}

/* Other file systems may be mounted below these, as in /dev/shm. */
static bool is_in_one_of_the_kernel(const char *dir) {
        static const char *const names[] = { "proc", "sys", "dev" };
        size_t len = strcspn(dir, "/");

        for (size_t i = 0; is_whole && i < sizeof(names) / sizeof(*names); i++)
                if (strlen(names[i]) == len && memcmp(names[i], dir, len) == 0)
                        return true;
        return false;
}

/* No name in it is "..", which would lead up. */
static bool is_path(const char *dir) {
        while (*dir) {
                size_t len = strcspn(dir, "/");

                if (len == 0 || (len == 1 && dir[0] == '.') || (len == 2 && memcmp(dir, "..", 2) == 0))
                        return false;
                dir += len;
                if (*dir == '/' && !*++dir)
                        return false;
        }
        return true;
}

int place_open(const char *dir, bool *hidden) {
        int fd;

        if (!is_path(dir))
                return -EINVAL;
        fd = has_openat2 ? open_in_root(*dir ? dir : ".", RESOLVE_NO_SYMLINKS) : -ENOSYS;
        if (fd < 0 && !has_openat2)
                fd = open_names(dir);
        if (fd >= 0)
                *hidden = is_in_one_of_the_kernel(dir) || is_of_the_kernel(fd);
        return fd;
}

int place_follow(const char *dir, const char *path) {
        char whole[PATH_MAX];
        int n;

        if (*path == '/')
                dir = "";
        n = snprintf(whole, sizeof(whole), "./%s/%s", dir, path);
        if (n >= (int)sizeof(whole))
                return -ENAMETOOLONG;
        if (has_openat2)
                return open_in_root(whole, 0);
        if (!is_whole)
                return -ENOSYS; /* a link could lead out of a root that is only a directory */
        n = openat(place_root, whole, DIRECTORY);
        return n < 0 ? -errno : n;
}

int place_name(int fd, char *out, int size) {
        char root[PATH_MAX] = "";
        size_t len;
        int r = is_whole ? 0 : path_of(place_root, root, sizeof(root));

        if (r == 0)
                r = path_of(fd, out, size);
        if (r < 0)
                return r;
        len = strlen(root);
        if (strncmp(out, root, len) || (out[len] && out[len] != '/'))
                return -EXDEV;
        memmove(out, out + len, strlen(out + len) + 1);
        if (strcmp(out, "/") == 0)
                *out = '\0';
        return 0;
}

bool place_is_name(const char *name) {
        return *name && strlen(name) <= NAME_MAX && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}
