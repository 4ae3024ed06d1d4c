/* SPDX-License-Identifier: MIT */
#include "fs/session.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/remote/remote.h"
#include "pool/util/cleanup.h"
#include "pool/util/log.h"

#define REQUESTS_AT_ONCE 64 /* then other handles of the loop have their turn */

struct session {
        struct fuse_session *fuse;
        struct fs *fs;
        uv_poll_t poll;
        struct fuse_buf buf;
        char *mountpoint;
        bool mounted; /* and the kernel has sent INIT */
        void (*ended)(void *data);
        void *data;
};

static void on_requests(uv_poll_t *poll, int status, int events) {
        struct session *s = poll->data;

        for (int i = 0; i < REQUESTS_AT_ONCE; i++) {
                int n = fuse_session_receive_buf(s->fuse, &s->buf);

                if (n == -EINTR)
                        continue;
                if (n == -EAGAIN)
                        return;
                if (n <= 0) {
                        /* 0: unmounted. */
                        if (n < 0 && n != -ENODEV)
                                log_error("reading the kernel's requests: %s", strerror(-n));
                        uv_poll_stop(poll);
                        s->mounted = false;
                        s->ended(s->data);
                        return;
                }
                fuse_session_process_buf(s->fuse, &s->buf);
        }
}

/* Whether a modalpool, dead or alive, is mounted at @path. If there are several mounts, the last counts. */
static bool is_modalpool(const char *path) {
        FILE *f = setmntent("/proc/self/mounts", "re");
        struct mntent entry;
        char line[8192];
        bool found = false;

        while (f && getmntent_r(f, &entry, line, sizeof(line)))
                if (!strcmp(entry.mnt_dir, path))
                        found = !strcmp(entry.mnt_type, "fuse.modalpool");
        if (f)
                endmntent(f);
        return found;
}

static int run_fusermount(const char *mountpoint) {
        const char *argv[] = { "fusermount3", "-u", "-z", "--", mountpoint, NULL };
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                execvp(argv[0], (char *const *)argv);
                _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int unmount(const char *mountpoint) {
        return umount2(mountpoint, MNT_DETACH) == 0 ? 0 : run_fusermount(mountpoint);
}

/* The mount of a killed daemon gives ENOTCONN. It is cleared only then, and only if it is ours. */
int session_clear_dead_mount(const char *mountpoint, struct result *why) {
        struct statvfs alive;
        struct stat st;

        /* The kernel may answer stat of a dead mount from its cache; statvfs always asks the daemon. */
        if (stat(mountpoint, &st) == 0 && (statvfs(mountpoint, &alive) == 0 || errno != ENOTCONN)) {
                if (!S_ISDIR(st.st_mode)) {
                        result_set(why, RESULT_INVALID, "mountpoint %s: not a directory", mountpoint);
                        return -ENOTDIR;
                }
                if (is_modalpool(mountpoint)) {
                        result_set(why, RESULT_INVALID, "mountpoint %s: a modalpool is mounted there already", mountpoint);
                        return -EBUSY;
                }
                return 0;
        }
        if (errno != ENOTCONN) {
                int r = -errno;

                result_set(why, RESULT_INVALID, "mountpoint %s: %s", mountpoint, strerror(errno));
                return r;
        }
        if (!is_modalpool(mountpoint)) {
                result_set(why, RESULT_INVALID, "mountpoint %s: a dead mount of another program lies there; unmount it first",
                           mountpoint);
                return -ENOTCONN;
        }
        log_info("clearing the dead mount at %s", mountpoint);
        if (unmount(mountpoint) == 0)
                return 0;
        result_set(why, RESULT_FAILED, "mountpoint %s: the dead mount there could not be cleared; try fusermount3 -uz %s",
                   mountpoint, mountpoint);
        return -EBUSY;
}

static struct fuse_session *new_fuse(struct fs *fs, bool debug) {
        struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
        struct fuse_session *fuse = NULL;
        char fsname[128];

        snprintf(fsname, sizeof(fsname), "-ofsname=%s,subtype=modalpool,default_permissions%s", fs->provider,
                 fs->config->allow_other ? ",allow_other" : "");
        if (fuse_opt_add_arg(&args, "modalpool") == 0 && fuse_opt_add_arg(&args, fsname) == 0 &&
            (!debug || fuse_opt_add_arg(&args, "-d") == 0))
                fuse = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), fs);
        fuse_opt_free_args(&args);
        return fuse;
}

int session_new(struct session **out, uv_loop_t *loop, struct fs *fs, const char *mountpoint, bool debug,
                void (*ended)(void *data), void *data, struct result *why) {
        struct session *s;
        int r, fd;

        r = session_clear_dead_mount(mountpoint, why);
        if (r < 0)
                return r;
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->fs = fs;
        s->ended = ended;
        s->data = data;
        s->mountpoint = strdup(mountpoint);
        s->fuse = s->mountpoint ? new_fuse(fs, debug) : NULL;
        if (!s->fuse) {
                result_set(why, RESULT_FAILED, "libfuse did not start");
                free(s->mountpoint);
                free(s);
                return -EIO;
        }
        if (fuse_session_mount(s->fuse, mountpoint) < 0) {
                result_set(why, RESULT_FAILED,
                           "not mounted at %s; is /dev/fuse there, fuse3 installed, and the directory yours%s?",
                           mountpoint, fs->config->allow_other ? ", and user_allow_other set in /etc/fuse.conf" : "");
                fuse_session_destroy(s->fuse);
                free(s->mountpoint);
                free(s);
                return -EIO;
        }
        s->mounted = true;
        fs->fuse = s->fuse;
        fd = fuse_session_fd(s->fuse);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        uv_poll_init(loop, &s->poll, fd);
        s->poll.data = s;
        uv_poll_start(&s->poll, UV_READABLE, on_requests);
        *out = s;
        return 0;
}

static void on_closed(uv_handle_t *h) {
        struct session *s = h->data;

        fuse_session_destroy(s->fuse);
        free(s->buf.mem);
        free(s->mountpoint);
        free(s);
}

void session_free(struct session *s) {
        if (!s)
                return;
        handles_free_all(s->fs);
        requests_answer_all(&s->fs->requests, -ECONNABORTED);
        remote_free_all(s->fs);
        fuse_session_unmount(s->fuse);
        /* After the connection was aborted the mount is still there, and libfuse does not remove it. */
        if (!s->mounted && is_modalpool(s->mountpoint))
                unmount(s->mountpoint);
        uv_close((uv_handle_t *)&s->poll, on_closed);
}

bool session_is_up(const struct session *s) {
        return s->fs->greeted;
}
