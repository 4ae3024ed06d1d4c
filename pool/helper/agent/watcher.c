/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/watcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/helper/agent/limits.h"
#include "pool/helper/agent/watcher-line.h"
#include "pool/util/cleanup.h"

#define BUCKETS 4096
#define CHANGES (IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
#define OF_ROOT (CHANGES | IN_DELETE_SELF | IN_MOVE_SELF)
#define OF_DIRECTORY (CHANGES | IN_ONLYDIR | IN_DONT_FOLLOW)

/* What is watched: the root, and the directories below it. */
struct node {
        struct node *next; /* in its bucket */
        struct node *parent; /* NULL: the root */
        int wd;
        char name[]; /* in the parent */
};

/* The first half of a rename, until the next event. */
struct half {
        bool is_there, directory;
        uint32_t cookie;
        char path[WATCHER_PATH_MAX];
        struct node *parent;
        char name[NAME_MAX + 1];
};

static struct node *buckets[BUCKETS];
static unsigned n_nodes;
static struct node *root;
static const char *root_path, *root_given;
static bool recursive, root_is_file;
static int inotify;
static struct half half;

/* nodes */

static struct node *find(int wd) {
        for (struct node *n = buckets[(unsigned)wd % BUCKETS]; n; n = n->next)
                if (n->wd == wd)
                        return n;
        return NULL;
}

/* O(n), for directories that move or go. */
static struct node *find_child(const struct node *parent, const char *name) {
        for (unsigned i = 0; i < BUCKETS; i++)
                for (struct node *n = buckets[i]; n; n = n->next)
                        if (n->parent == parent && strcmp(n->name, name) == 0)
                                return n;
        return NULL;
}

static struct node *find_any_child(const struct node *parent) {
        for (unsigned i = 0; i < BUCKETS; i++)
                for (struct node *n = buckets[i]; n; n = n->next)
                        if (n->parent == parent)
                                return n;
        return NULL;
}

static void unlink_node(struct node *n) {
        struct node **at = &buckets[(unsigned)n->wd % BUCKETS];

        while (*at != n)
                at = &(*at)->next;
        *at = n->next;
        n_nodes--;
}

static void link_node(struct node *n) {
        struct node **bucket = &buckets[(unsigned)n->wd % BUCKETS];

        n->next = *bucket;
        *bucket = n;
        n_nodes++;
}

/* With all below it. */
static void forget(struct node *n) {
        struct node *child;

        while ((child = find_any_child(n)))
                forget(child);
        (void)inotify_rm_watch(inotify, n->wd);
        unlink_node(n);
        free(n);
}

static struct node *node_new(struct node *parent, const char *name, int wd) {
        struct node *n = malloc(sizeof(*n) + strlen(name) + 1);

        if (!n)
                return NULL;
        *n = (struct node){ .parent = parent, .wd = wd };
        strcpy(n->name, name);
        link_node(n);
        return n;
}

/* The path of what is called @name in it, or of itself where that is "". Behind @prefix. False: too long. */
static bool make_path_of(const char *prefix, const struct node *n, const char *name, char out[WATCHER_PATH_MAX]) {
        const char *parts[WATCHER_PATH_MAX / 2];
        size_t depth = 0, len = strlen(prefix);

        if (*name)
                parts[depth++] = name;
        for (; n->parent; n = n->parent) {
                if (depth == sizeof(parts) / sizeof(*parts))
                        return false;
                parts[depth++] = n->name;
        }
        if (len >= WATCHER_PATH_MAX)
                return false;
        memcpy(out, prefix, len + 1);
        while (depth-- > 0) {
                size_t n_part = strlen(parts[depth]), slash = len > 0 && out[len - 1] != '/';

                if (len + slash + n_part >= WATCHER_PATH_MAX)
                        return false;
                if (slash)
                        out[len++] = '/';
                memcpy(out + len, parts[depth], n_part + 1);
                len += n_part;
        }
        return true;
}

/* "./x" is not what anybody calls it. */
static const char *shown_root(void) {
        return strcmp(root_given, ".") == 0 ? "" : root_given;
}

/* lines */

static void tell(const char *event, const struct node *n, const char *name, bool directory) {
        char path[WATCHER_PATH_MAX];

        if (make_path_of(shown_root(), n, name, path))
                line_put(event, NULL, *path ? path : ".", directory);
}

/* directories below the root */

static void watch_tree(struct node *n, bool announce);

/* One that is there already, by another name, is renamed: an overflow hid that. */
static struct node *watch_directory(struct node *parent, const char *name, bool *is_new) {
        char path[WATCHER_PATH_MAX];
        struct node *n;
        int wd = -1;

        *is_new = false;
        errno = ENOSPC;
        if (make_path_of(root_path, parent, name, path) && n_nodes < WATCHER_DIRECTORIES_MAX)
                wd = inotify_add_watch(inotify, path, OF_DIRECTORY);
        if (wd < 0) {
                if (errno != ENOENT && errno != ENOTDIR)
                        tell("limit", parent, name, true);
                return NULL;
        }
        n = find(wd);
        if (n && (n == root || (n->parent == parent && strcmp(n->name, name) == 0)))
                return n == root ? NULL : n;
        if (n) {
                unlink_node(n); /* its children keep their parent: they are found again below the new one */
                free(n);
        }
        *is_new = true;
        return node_new(parent, name, wd);
}

static bool is_directory(int dir, const struct dirent *e) {
        struct stat st;

        if (e->d_type != DT_UNKNOWN)
                return e->d_type == DT_DIR;
        return fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static void watch_entry(struct node *n, int dir, const struct dirent *e, bool announce) {
        bool directory, is_new;
        struct node *child;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                return;
        directory = is_directory(dir, e);
        if (announce)
                tell("create", n, e->d_name, directory);
        if (!directory)
                return;
        child = watch_directory(n, e->d_name, &is_new);
        if (child)
                watch_tree(child, announce);
}

/* What is in a directory that is watched already. */
static void watch_tree(struct node *n, bool announce) {
        char path[WATCHER_PATH_MAX];
        struct dirent *e;
        DIR *d;

        if (!make_path_of(root_path, n, "", path))
                return;
        d = opendir(path);
        if (!d)
                return;
        while ((e = readdir(d)))
                watch_entry(n, dirfd(d), e, announce);
        closedir(d);
}

static void directory_came(struct node *parent, const char *name) {
        bool is_new;
        struct node *n = recursive ? watch_directory(parent, name, &is_new) : NULL;

        if (n && is_new)
                watch_tree(n, true);
}

/* events */

static void end_half(void) {
        struct node *n;

        if (!half.is_there)
                return;
        half.is_there = false;
        line_put("delete", NULL, half.path, half.directory);
        n = half.directory ? find_child(half.parent, half.name) : NULL;
        if (n)
                forget(n);
}

static void begin_half(struct node *n, const struct inotify_event *e) {
        half = (struct half){ .directory = e->mask & IN_ISDIR, .cookie = e->cookie, .parent = n };
        half.is_there = make_path_of(shown_root(), n, e->name, half.path);
        snprintf(half.name, sizeof(half.name), "%s", e->name);
}

static void move_node(struct node *n, struct node *parent, const char *name) {
        struct node *moved = malloc(sizeof(*moved) + strlen(name) + 1);

        if (!moved) {
                forget(n);
                return;
        }
        *moved = (struct node){ .parent = parent, .wd = n->wd };
        strcpy(moved->name, name);
        for (unsigned i = 0; i < BUCKETS; i++)
                for (struct node *child = buckets[i]; child; child = child->next)
                        if (child->parent == n)
                                child->parent = moved;
        unlink_node(n);
        free(n);
        link_node(moved);
}

static void end_rename(struct node *to, const struct inotify_event *e) {
        struct node *n = half.directory ? find_child(half.parent, half.name) : NULL;
        char path[WATCHER_PATH_MAX];

        half.is_there = false;
        if (make_path_of(shown_root(), to, e->name, path))
                line_put("rename", half.path, path, half.directory);
        if (n)
                move_node(n, to, e->name);
}

static void came(struct node *n, const struct inotify_event *e) {
        tell("create", n, e->name, e->mask & IN_ISDIR);
        if (e->mask & IN_ISDIR)
                directory_came(n, e->name);
}

static bool root_is_gone(const struct inotify_event *e) {
        struct stat st;

        if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED))
                return true;
        /* A file that somebody has open goes later than its name. */
        return root_is_file && e->mask & IN_ATTRIB && stat(root_path, &st) < 0;
}

static void take_in(struct node *n, const struct inotify_event *e) {
        const char *name = e->len > 0 ? e->name : "";
        bool directory = e->mask & IN_ISDIR;

        if (e->mask & IN_CREATE || e->mask & IN_MOVED_TO)
                came(n, e);
        else if (e->mask & IN_MOVED_FROM)
                begin_half(n, e);
        else if (e->mask & IN_DELETE)
                tell("delete", n, name, directory);
        else if (e->mask & IN_MODIFY)
                tell("modify", n, name, directory);
        else if (e->mask & IN_CLOSE_WRITE)
                tell("close", n, name, directory);
        else if (e->mask & IN_ATTRIB && (*name || n == root)) /* else its parent tells it, too */
                tell("attributes", n, name, directory || (!*name && !root_is_file));
}

/* False: nothing is left to be watched. */
static bool take(const struct inotify_event *e) {
        struct node *n = e->wd < 0 ? NULL : find(e->wd);

        if (half.is_there && n && e->mask & IN_MOVED_TO && e->cookie == half.cookie) {
                end_rename(n, e);
                return true;
        }
        end_half();
        if (e->mask & IN_Q_OVERFLOW) {
                line_put("overflow", NULL, NULL, false);
                if (recursive)
                        watch_tree(root, false);
                return true;
        }
        n = e->wd < 0 ? NULL : find(e->wd); /* the half may have taken it along */
        if (!n)
                return true;
        if (n == root && root_is_gone(e)) {
                tell("gone", root, "", !root_is_file);
                return false;
        }
        if (e->mask & IN_IGNORED)
                forget(n);
        else
                take_in(n, e);
        return true;
}

static bool read_events(void) {
        static char buffer[64 << 10] __attribute__((aligned(__alignof__(struct inotify_event))));
        ssize_t n = read(inotify, buffer, sizeof(buffer));

        for (ssize_t at = 0; at < n;) {
                const struct inotify_event *e = (const struct inotify_event *)(buffer + at);

                if (!take(e))
                        return false;
                at += (ssize_t)sizeof(*e) + e->len;
        }
        return true;
}

/* the process */

/* Lines that cannot be sent wait, and when there are too many, events wait in the kernel, which says when that is full. */
static void run(int out) {
        bool watching = true;

        while (watching || line_pending() > 0) {
                struct pollfd p[] = {
                        { .fd = out, .events = line_pending() > 0 ? POLLOUT : 0 },
                        { .fd = watching && line_pending() < WATCHER_OUTPUT_MAX ? inotify : -1, .events = POLLIN },
                };
                int n = poll(p, 2, half.is_there ? WATCHER_RENAME_MS : -1);

                if (n == 0)
                        end_half();
                if (p[0].revents & (POLLHUP | POLLERR) || (line_pending() > 0 && !line_send(out)))
                        return;
                if (n > 0 && p[1].revents)
                        watching = read_events();
        }
}

static int begin(const char *path) {
        struct stat st;
        int wd;

        inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (inotify < 0)
                return -errno;
        if (stat(path, &st) < 0)
                return -errno;
        root_is_file = !S_ISDIR(st.st_mode);
        if (recursive && root_is_file)
                return -ENOTDIR;
        wd = inotify_add_watch(inotify, path, OF_ROOT);
        if (wd < 0)
                return -errno;
        root = node_new(NULL, "", wd);
        if (!root)
                return -ENOMEM;
        if (recursive)
                watch_tree(root, false);
        return 0;
}

_Noreturn void watcher_run(int out, const char *path, const char *given, bool is_recursive) {
        int error;

        root_path = path;
        root_given = given;
        recursive = is_recursive;
        error = -begin(path);
        if (send(out, &error, sizeof(error), MSG_NOSIGNAL) == sizeof(error) && error == 0)
                run(out);
        _exit(0);
}
