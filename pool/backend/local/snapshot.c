/* SPDX-License-Identifier: MIT */

/*
 * Snapshots: an archive of what the sandbox has written (pool/helper/agent/archive.h), as a file of the state directory.
 * A process of ours writes it, which no job can reach, under a name that says that it is not complete:
 *
 *   SNAPSHOTS/ID.part → SNAPSHOTS/ID
 *
 * So the id is the name of the image, and what was being written when a daemon was killed is written anew by the next one.
 * The sandbox's file system is in memory, so nothing of it can be shared with the file.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/backend/local/internal.h"
#include "pool/util/cleanup.h"
#include "pool/util/crash.h"
#include "pool/util/uuid.h"

#define SNAPSHOT_TIMEOUT_MS 50000 /* shorter than its environment would wait */

/* Lives until libuv has let go of its handles, perhaps longer than the sandbox. */
struct local_saving {
        struct local_sandbox *sandbox; /* NULL: nobody waits for it */
        struct local *local;
        uv_process_t process;
        uv_timer_t timer;
        unsigned n_handles;
        int errors; /* what the process says */
        char id[UUID_SIZE];
        char part[4600], path[4600];
};

static void on_handle_closed(uv_handle_t *handle) {
        struct local_saving *v = handle->data;

        if (--v->n_handles > 0)
                return;
        close(v->errors);
        free(v);
}

static void close_saving(struct local_saving *v) {
        uv_close((uv_handle_t *)&v->process, on_handle_closed);
        uv_close((uv_handle_t *)&v->timer, on_handle_closed);
}

static void fill_paths(struct local_saving *v, const char *id) {
        snprintf(v->id, sizeof(v->id), "%s", id);
        snprintf(v->path, sizeof(v->path), "%s/%s", v->local->snapshots, id);
        snprintf(v->part, sizeof(v->part), "%s/%s.part", v->local->snapshots, id);
}

/* Why there is none. It is not left half written. */
static void say_why(struct local_saving *v, const char *what, struct result *why) {
        char text[300];
        ssize_t n = read(v->errors, text, sizeof(text) - 1);

        text[n > 0 ? n : 0] = '\0';
        unlink(v->part);
        result_set(why, RESULT_FAILED, "snapshot of environment %s: %s%s%s", v->sandbox ? v->sandbox->sandbox.id : "", what,
                   n > 0 ? ": " : "", text);
}

static void on_saved(uv_process_t *process, int64_t status, int signo) {
        struct local_saving *v = process->data;
        struct result r = {};

        crash_point("snapshot", "was written");
        if (status != 0 || signo)
                say_why(v, signo ? "its copying was stopped" : "it cannot be copied", &r);
        else if (rename(v->part, v->path) < 0)
                say_why(v, strerror(errno), &r);
        if (v->sandbox) {
                v->sandbox->saving = NULL;
                sandbox_snapshotted(&v->sandbox->sandbox, &r, v->id);
        }
        close_saving(v);
}

static void on_not_spawned(uv_timer_t *timer) {
        struct local_saving *v = timer->data;

        on_saved(&v->process, 1, 0);
}

static void on_timeout(uv_timer_t *timer) {
        struct local_saving *v = timer->data;

        uv_process_kill(&v->process, SIGKILL);
}

void local_stop_saving(struct local_sandbox *s) {
        struct local_saving *v = s->saving;

        s->saving = NULL;
        if (!v)
                return;
        v->sandbox = NULL;
        uv_timer_stop(&v->timer);
        if (uv_process_kill(&v->process, SIGKILL) < 0)
                uv_timer_start(&v->timer, on_not_spawned, 0, 0); /* it never ran */
}

/* The file cannot grow without end, whatever jobs do meanwhile: besides what is in it, each entry takes some bytes. */
static void set_limit(char text[32], const struct local *l) {
        snprintf(text, 32, "%llu", (unsigned long long)(2 * l->options.size));
}

static int spawn(struct local_saving *v, int out, int errors) {
        char pid[16], limit[32];
        const char *const argv[] = { v->local->client->helper, "save", pid, limit, NULL };
        uv_stdio_container_t stdio[] = {
                { .flags = UV_IGNORE },
                { .flags = UV_INHERIT_FD, .data.fd = out },
                { .flags = UV_INHERIT_FD, .data.fd = errors },
        };

        snprintf(pid, sizeof(pid), "%d", (int)v->sandbox->helper_pid);
        set_limit(limit, v->local);
        return uv_spawn(v->local->client->loop, &v->process,
                        &(uv_process_options_t){
                                .exit_cb = on_saved,
                                .file = argv[0],
                                .args = (char **)argv,
                                .env = (char *[]){ NULL },
                                .cwd = "/",
                                .flags = UV_PROCESS_DETACHED,
                                .stdio_count = 3,
                                .stdio = stdio,
                        });
}

/* 0 or -errno. Its process may still not have been started: then that is told from the loop. */
static int start(struct local_saving *v) {
        _cleanup_(cleanup_close) int out = -1, errors = -1;
        int fds[2], r;

        if (mkdir(v->local->snapshots, 0700) < 0 && errno != EEXIST)
                return -errno;
        unlink(v->part); /* the process of a daemon that was killed may still write to that one */
        out = open(v->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (out < 0 || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        v->errors = fds[0];
        errors = fds[1];
        r = spawn(v, out, errors);
        crash_point("snapshot", "is written");
        uv_timer_init(v->local->client->loop, &v->timer);
        v->process.data = v->timer.data = v;
        v->n_handles = 2;
        uv_timer_start(&v->timer, r == 0 ? on_timeout : on_not_spawned, r == 0 ? SNAPSHOT_TIMEOUT_MS : 0, 0);
        return 0;
}

int local_snapshot(struct sandbox *sandbox, const char *id) {
        struct local_sandbox *s = local_sandbox(sandbox);
        struct local_saving *v;
        int r;

        if (!sandbox_local(s)->isolate)
                return -EOPNOTSUPP; /* what its jobs write is nowhere in particular */
        if (!local_helper_lives(s))
                return -ENODEV;
        v = calloc(1, sizeof(*v));
        if (!v)
                return -ENOMEM;
        v->sandbox = s;
        v->local = sandbox_local(s);
        fill_paths(v, id);
        r = start(v);
        if (r < 0) {
                unlink(v->part);
                free(v);
                return r;
        }
        s->saving = v;
        return 0;
}

/* deletion */

struct local_deletion {
        uv_timer_t timer;
        struct snapshot_deletion *deletion;
        struct result result;
};

static void on_deletion_closed(uv_handle_t *handle) {
        free(handle->data);
}

static void on_deleted(uv_timer_t *timer) {
        struct local_deletion *d = timer->data;

        d->deletion->done(d->deletion, &d->result);
        uv_close((uv_handle_t *)timer, on_deletion_closed);
}

static int remove_file(const struct local *l, const char *id, const char *suffix) {
        char path[4600];

        snprintf(path, sizeof(path), "%s/%s%s", l->snapshots, id, suffix);
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int local_delete_snapshot(struct backend *b, const char *id, const char *image, struct snapshot_deletion *deletion) {
        struct local *l = container_of(b, struct local, backend);
        struct local_deletion *d = calloc(1, sizeof(*d));
        int r;

        if (!d)
                return -ENOMEM;
        r = remove_file(l, id, ".part");
        if (r == 0)
                r = remove_file(l, id, "");
        if (r < 0)
                result_set(&d->result, RESULT_FAILED, "snapshot %s: not removed: %s", id, strerror(-r));
        d->deletion = deletion;
        uv_timer_init(l->client->loop, &d->timer);
        d->timer.data = d;
        uv_timer_start(&d->timer, on_deleted, 0, 0);
        return 0;
}

int local_open_snapshot(const struct local *l) {
        char path[4600];
        int fd;

        snprintf(path, sizeof(path), "%s/%s", l->snapshots, l->snapshot);
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}
