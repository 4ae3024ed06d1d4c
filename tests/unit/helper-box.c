/* SPDX-License-Identifier: MIT */
#include "helper-box.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "check.h"
#include "pool/util/cleanup.h"
#include "pool/util/uuid.h"

struct wire {
        struct exec exec;
        int fd;
        uv_poll_t poll;
};

struct boxes boxes = { .dice = { 1 } };

static int64_t bytes_left = INT64_MAX; /* until a stream breaks */

static struct box *box_of(struct sandbox *s) {
        return container_of(s, struct box, sandbox);
}

static void on_later(uv_timer_t *timer) {
        struct box *b = timer->data;

        b->later(b);
}

static void later(struct box *b, void (*what)(struct box *b)) {
        b->later = what;
        uv_timer_start(&b->timer, on_later, 0, 0);
}

static void serve(struct box *b) {
        int fds[2];

        CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
        b->pid = check_fork();
        if (b->pid == 0) {
                dup2(fds[0], 0);
                execl(boxes.program, boxes.program, "serve", "-f", b->path, NULL);
                _exit(127);
        }
        close(fds[0]);
        CHECK_INT(write(fds[1], b->key, sizeof(b->key)), sizeof(b->key));
        close(fds[1]);
}

static int try_connect(struct box *b) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        strcpy(address.sun_path, b->path);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        close(fd);
        return -1;
}

static void box_created(struct box *b) {
        int fd = try_connect(b);

        if (fd < 0) { /* not yet */
                uv_timer_start(&b->timer, on_later, 10, 0);
                return;
        }
        close(fd);
        sandbox_created(&b->sandbox, &(struct result){});
}

static int box_new(struct backend *backend, const char *nonce, struct sandbox **out) {
        struct box *b = calloc(1, sizeof(*b));

        b->sandbox.backend = backend;
        snprintf(b->sandbox.id, sizeof(b->sandbox.id), "box");
        snprintf(b->path, sizeof(b->path), "%s/socket", boxes.dir);
        uuid_bytes(nonce, b->key);
        uv_timer_init(boxes.loop, &b->timer);
        b->timer.data = b;
        later(b, box_created);
        boxes.newest = b;
        *out = &b->sandbox;
        return 0;
}

static int box_create(struct backend *backend, const char *nonce, struct sandbox **out) {
        int r = box_new(backend, nonce, out);

        serve(box_of(*out));
        return r;
}

/* Another daemon's view of the same. */
static int box_adopt(struct backend *backend, const char *nonce, const char *resume_token, bool unused,
                 struct sandbox **out) {
        return box_new(backend, nonce, out);
}

static void on_box_closed(uv_handle_t *handle) {
        free(handle->data);
}

static void box_destroyed(struct box *b) {
        int status;

        if (b->pid > 0) {
                kill(b->pid, SIGKILL);
                CHECK_INT(waitpid(b->pid, &status, 0), b->pid);
                unlink(b->path);
        }
        sandbox_destroyed(&b->sandbox, &(struct result){});
        uv_close((uv_handle_t *)&b->timer, on_box_closed);
}

static void box_destroy(struct sandbox *s) {
        later(box_of(s), box_destroyed);
}

static int box_clean(struct sandbox *s, const char *workdir) {
        return -ENOTSUP;
}

static int box_exec(struct sandbox *s, const struct exec_spec *spec, struct exec **out) {
        return -ENOTSUP;
}

/* streams */

static void on_wire_closed(uv_handle_t *handle) {
        free(handle->data);
}

static void wire_close(struct wire *w) {
        close(TAKE_FD(w->fd));
        uv_close((uv_handle_t *)&w->poll, on_wire_closed);
}

static void wire_end(struct wire *w, int code) {
        exec_ended(&w->exec, &(struct result){}, code);
        wire_close(w);
}

static void wire_break(struct wire *w) {
        struct result why;

        result_set(&why, RESULT_FAILED, "it broke");
        exec_ended(&w->exec, &why, 0);
        wire_close(w);
}

/* libuv gives a status, and stops, when the helper has closed its end with bytes that it did not read. */
static void on_wire(uv_poll_t *poll, int status, int events) {
        struct wire *w = poll->data;
        static uint8_t data[65536];
        ssize_t n;

        if (status < 0) {
                uv_poll_start(poll, UV_READABLE, on_wire);
                events = UV_READABLE;
        }
        if (w->fd < 0) { /* nobody listens */
                exec_output(&w->exec, STREAM_STDERR, "nobody listens", 14);
                wire_end(w, 1);
                return;
        }
        if (bytes_left == 0) {
                wire_break(w);
                return;
        }
        if (events & UV_WRITABLE) {
                uv_poll_start(poll, UV_READABLE, on_wire);
                exec_room(&w->exec);
        }
        if (!(events & UV_READABLE))
                return;
        n = recv(w->fd, data, (size_t)bytes_left < sizeof(data) ? (size_t)bytes_left : sizeof(data), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
                return;
        bytes_left -= n > 0 ? n : 0;
        if (n > 0)
                exec_output(&w->exec, STREAM_STDOUT, data, n);
        if (bytes_left == 0)
                wire_break(w);
        else if (n <= 0)
                wire_end(w, 0);
}

static int box_attach(struct sandbox *s, struct exec **out) {
        struct wire *w = calloc(1, sizeof(*w));
        static int null = -1;

        boxes.n_streams++;
        if (boxes.bytes_each == 0)
                bytes_left = INT64_MAX;
        else if (boxes.n_streams % 8 == 7) /* before anything goes on over it */
                bytes_left = 1 + (int64_t)prng_scaled(&boxes.dice, 2000);
        else
                bytes_left = 3000 + (int64_t)prng_scaled(&boxes.dice, boxes.bytes_each);
        w->exec.sandbox = s;
        w->fd = try_connect(box_of(s));
        if (null < 0) {
                int fds[2];

                CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
                null = fds[0];
                close(fds[1]);
        }
        uv_poll_init(boxes.loop, &w->poll, w->fd < 0 ? dup(null) : w->fd);
        w->poll.data = w;
        uv_poll_start(&w->poll, UV_READABLE, on_wire);
        *out = &w->exec;
        return 0;
}

/* A stream may also break in the middle of what is sent. */
static ssize_t wire_write(struct exec *e, const void *data, size_t len) {
        struct wire *w = container_of(e, struct wire, exec);
        ssize_t n;

        if (w->fd < 0 || bytes_left == 0)
                return -EPIPE;
        if (len > 5000)
                len = 5000; /* short writes are the rule */
        n = send(w->fd, data, (size_t)bytes_left < len ? (size_t)bytes_left : len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
                n = 0;
        bytes_left -= n;
        uv_poll_start(&w->poll, UV_READABLE | UV_WRITABLE, on_wire);
        return n;
}

static void wire_end_input(struct exec *e) {
        shutdown(container_of(e, struct wire, exec)->fd, SHUT_WR);
}

static void wire_cancel(struct exec *e) {
        wire_close(container_of(e, struct wire, exec));
}

static int box_start(struct backend *b, enum backend_use use) {
        backend_ready(b, &(struct result){});
        return 0;
}

static void box_free(struct backend *b) {
        free(b);
}

static const struct backend_ops box_ops = {
        .name = "box",
        .start = box_start,
        .free = box_free,
        .create = box_create,
        .adopt = box_adopt,
        .leave = box_destroy,
        .destroy = box_destroy,
        .clean = box_clean,
        .exec = box_exec,
        .attach = box_attach,
        .exec_write = wire_write,
        .exec_end_input = wire_end_input,
        .exec_cancel = wire_cancel,
};

static void free_nothing(struct backend_client *c) {
}

static const struct backend_client_ops client_ops = { .free = free_nothing };
static struct backend_client client = { .ops = &client_ops };

struct backend *box_backend_new(void) {
        struct backend *b = calloc(1, sizeof(*b));

        b->ops = &box_ops;
        backend_attach(b, &client);
        return b;
}
