/* SPDX-License-Identifier: MIT */

/*
 * Sandboxes whose daemon is gone, and that the next daemon takes back. Their helpers look for it (agent/control.h): it
 * listens in its directory, which the sandboxes have in common with it, and a helper that comes says its key.
 *
 *   creating → live     its helper has come
 *   creating → failed   its process is gone, or it does not come in time
 *   ending → gone       it has come, and ended; or it did not come in time
 *
 * A helper that nobody waits for hears nothing, and comes again, until its time is over: the pool that has its sandbox may
 * be taken back later than others. All pools of a mount share the directory, so the client listens.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "pool/backend/local/internal.h"
#include "pool/util/cleanup.h"
#include "pool/util/crash.h"
#include "pool/util/uuid.h"

#define CALLERS_MAX 64      /* that have not said their key */
#define ADOPT_TIMEOUT_MS 15000
#define SOCKET_NAME "daemon"

struct caller {
        struct list link; /* in the client's, the oldest first */
        struct local_client *client;
        uv_poll_t poll;
        int fd;
};

/* who comes back */

static struct local_sandbox *find_awaited(struct local_client *l, const uint8_t key[CONTROL_KEY_SIZE]) {
        struct local_sandbox *s;

        list_for_each (s, &l->awaited, awaited)
                if (memcmp(s->key, key, CONTROL_KEY_SIZE) == 0)
                        return s;
        return NULL;
}

static void on_caller_closed(uv_handle_t *handle) {
        struct caller *c = handle->data;

        close_fd(c->fd);
        free(c);
}

static void end_call(struct caller *c) {
        list_remove(&c->link);
        c->client->n_callers--;
        uv_close((uv_handle_t *)&c->poll, on_caller_closed);
}

static void come_back(struct local_sandbox *s, int fd) {
        struct result ok = {};

        crash_point("helper", "has come back");
        list_remove(&s->awaited);
        uv_timer_stop(&s->timer);
        local_take_control(s, fd);
        if (s->sandbox.state != SANDBOX_CREATING)
                return;
        local_send_wait(s, (uint64_t)sandbox_local(s)->options.orphan_us);
        sandbox_created(&s->sandbox, &ok);
}

static void on_caller(uv_poll_t *poll, int status, int events) {
        struct caller *c = poll->data;
        uint8_t key[CONTROL_KEY_SIZE + 1];
        ssize_t n = recv(c->fd, key, sizeof(key), MSG_DONTWAIT);
        struct local_sandbox *s;
        int fd;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        s = n == CONTROL_KEY_SIZE ? find_awaited(c->client, key) : NULL;
        explicit_bzero(key, sizeof(key));
        /* A descriptor of its own: libuv knows that of the caller until that is closed. */
        fd = s ? fcntl(c->fd, F_DUPFD_CLOEXEC, 3) : -1;
        if (fd >= 0)
                come_back(s, fd);
        end_call(c);
}

/* Where there are too many, the oldest goes: a job can call, too. */
static void on_connection(uv_poll_t *poll, int status, int events) {
        struct local_client *l = poll->data;
        _cleanup_(cleanup_close) int fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct caller *c = fd >= 0 ? calloc(1, sizeof(*c)) : NULL;

        if (!c)
                return; /* it comes again */
        if (l->n_callers == CALLERS_MAX)
                end_call(list_first(&l->callers, struct caller, link));
        list_add_tail(&l->callers, &c->link);
        c->client = l;
        c->fd = TAKE_FD(fd);
        uv_poll_init(l->loop, &c->poll, c->fd);
        uv_unref((uv_handle_t *)&c->poll);
        c->poll.data = c;
        l->n_callers++;
        uv_poll_start(&c->poll, UV_READABLE, on_caller);
}

/* By way of the directory's descriptor, as the path may be longer than an address. */
static int bind_in(int dir, int fd) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" SOCKET_NAME, dir);
        unlinkat(dir, SOCKET_NAME, 0);
        if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        /* Jobs in sandboxes reach it, too: what matters is the key. */
        return fchmodat(dir, SOCKET_NAME, 0600, 0) < 0 ? -errno : 0;
}

int local_listen(struct local *l) {
        struct local_client *c = l->client;
        _cleanup_(cleanup_close) int fd = -1, dir = -1;
        int r;

        if (c->listen)
                return 0;
        dir = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
                return -errno;
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        r = fd < 0 ? -errno : bind_in(dir, fd);
        if (r == 0 && listen(fd, CALLERS_MAX) < 0)
                r = -errno;
        if (r < 0)
                return r;
        c->listen = calloc(1, sizeof(*c->listen));
        if (!c->listen)
                return -ENOMEM;
        c->listen_fd = TAKE_FD(fd);
        c->listen_dir = TAKE_FD(dir);
        uv_poll_init(c->loop, c->listen, c->listen_fd);
        uv_unref((uv_handle_t *)c->listen);
        c->listen->data = c;
        return uv_poll_start(c->listen, UV_READABLE, on_connection);
}

static void on_listen_closed(uv_handle_t *handle) {
        close((int)(intptr_t)handle->data);
        free(handle);
}

void local_listen_end(struct local_client *c) {
        while (c->n_callers > 0)
                end_call(list_first(&c->callers, struct caller, link));
        if (!c->listen)
                return;
        unlinkat(c->listen_dir, SOCKET_NAME, 0);
        close(c->listen_dir);
        c->listen->data = (void *)(intptr_t)c->listen_fd;
        uv_close((uv_handle_t *)TAKE_PTR(c->listen), on_listen_closed);
}

/* taking back */

static void on_adopt_timeout(uv_timer_t *timer) {
        struct local_sandbox *s = timer->data;
        struct result why;

        list_remove(&s->awaited);
        result_set(&why, RESULT_LOST, "environment %s: %s", s->sandbox.id,
                   local_helper_lives(s) ? "its helper does not come back" : "it ended while there was no daemon");
        if (s->sandbox.state == SANDBOX_CREATING)
                sandbox_created(&s->sandbox, &why);
}

/*
 * One without a token never became live for who journals, and is destroyed next. Its helper is not known; but if it was
 * told to wait before that daemon ended, it comes.
 */
int local_adopt(struct backend *b, const char *nonce, const char *token, bool unused, struct sandbox **out) {
        struct local *l = container_of(b, struct local, backend);
        struct local_sandbox *s;
        int r;

        if (!*token && !local_survives(l))
                return -ENOTSUP;
        s = calloc(1, sizeof(*s) + 1);
        if (!s)
                return -ENOMEM;
        s->sandbox.backend = b;
        s->control_fd = s->errors_fd = -1;
        r = *token ? local_read_token(s, token) : 0;
        if (r == 0)
                r = local_listen(l);
        if (r < 0) {
                free(s);
                return r;
        }
        uuid_bytes(nonce, s->key);
        uv_timer_init(l->client->loop, &s->timer);
        s->timer.data = s;
        s->n_handles = 1;
        s->adopted = true;
        list_add_tail(&l->client->awaited, &s->awaited);
        uv_timer_start(&s->timer, on_adopt_timeout, local_helper_lives(s) ? ADOPT_TIMEOUT_MS : 0, 0);
        *out = &s->sandbox;
        return 0;
}
